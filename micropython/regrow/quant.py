"""TFLite's fixed-point multipliers and rounding, without floats.

A scale is given by the bits of its float32; products and quotients are rounded as a double rounds them, in
exact integers, since a board's floats have 24 bits or fewer.
"""

import micropython
from micropython import const

from .errors import PackError

BIAS = const(0x20000000)
"""Added to the biases in a table: viper loads words unsigned where ints have 64 bits."""
WIDE = const(32)
"""A shift of WIDE + i in a table: the channel is requantized by `wide` with record i behind the table."""

_DOUBLE_BITS = const(53)
_FLOAT_BITS = const(24)


def split(bits):
    """(m, e) of a positive float32 m * 2**e, with m in 2**23 .. 2**24 - 1."""
    if not 0 < bits < 0x7F800000:
        raise PackError("the graph has a scale that is not finite and positive where one is needed")
    mantissa = bits & 0x7FFFFF
    exponent = bits >> 23
    if exponent:
        return mantissa | 0x800000, exponent - 150
    exponent = -149
    while mantissa < 0x800000:
        mantissa <<= 1
        exponent -= 1
    return mantissa, exponent


def product(a, b):
    """(m, e) of the product of two float32 given by their bits, exact as in a double."""
    m, e = split(a)
    n, f = split(b)
    return m * n, e + f


def quantize_multiplier(number, divisor=(1, 0)):
    """(m, s) with number / divisor ~ m * 2**(s - 31) and m in 2**30 .. 2**31 - 1, or (0, 0) below 2**-32.

    number and divisor are pairs (mantissa, exponent). As TFLite's QuantizeMultiplier: the quotient is a
    double.
    """
    n, e = number
    d, f = divisor
    while n < 1 << 47:
        n <<= 1
        e -= 1
    quotient, rest = divmod(n << 32, d)
    m, shift = _round(quotient, rest, _DOUBLE_BITS)
    shift += e - f - 32 + _DOUBLE_BITS
    m = (m + (1 << 21)) >> 22
    if m >> 31:
        m >>= 1
        shift += 1
    return (m, shift) if shift >= -31 else (0, 0)


def activation_range(activation, tensor):
    """The lowest and highest integer, plus 128, that a fused activation lets through."""
    zero = tensor.zero_point + 128
    if activation == 0:
        return 0, 255
    if activation == 1:
        return zero, 255
    if activation == 2:
        return max(0, zero - _levels(1, tensor.scale)), min(255, zero + _levels(1, tensor.scale))
    if activation == 3:
        return zero, min(255, zero + _levels(6, tensor.scale))
    raise PackError(f"the graph has the unknown activation {activation}")


def _levels(real, scale):
    """real / scale as a float32, then the nearest integer."""
    mantissa, exponent = split(scale)
    m, shift = _round(*divmod(real << 60, mantissa), _FLOAT_BITS)
    shift -= 60 + exponent
    if shift > 0:
        return 1 << 20
    return ((m >> -shift - 1) + 1) >> 1 if shift else m


def _round(number, rest, bits):
    """(m, k) with number ~ m * 2**k and m of `bits` bits, ties to even; rest: is there more behind?"""
    shift = 0
    while number >> shift >= 1 << bits:
        shift += 1
    if not shift:
        return number, 0
    half = 1 << shift - 1
    tail = number & (half - 1 | half)
    m = number >> shift
    if tail > half or (tail == half and (rest or m & 1)):
        m += 1
    return m, shift


def high_mul(a, b):
    """a * b / 2**31, halves upward: gemmlowp's SaturatingRoundingDoublingHighMul."""
    return (a * b + 0x40000000) >> 31


def shift_right(x, by):
    """x / 2**by, halves away from zero: gemmlowp's RoundingDivideByPOT."""
    if not by:
        return x
    half = 1 << by - 1
    return (x + half - (x < 0)) >> by


@micropython.viper
def wide(x: int, bias_high: int, bias_low: int, m_high: int, m_low: int, shift: int, once: int) -> int:
    """(x + bias) * m * 2**(shift - 31), rounded as TFLite does and clamped to -512..512, for |x + bias| <
    2**31.

    TFLite rounds the doubled high product and again the right shift, halves away from zero; FULLY_CONNECTED
    rounds once, halves upward.

    bias_high counts from -2**15, shift from -31; m and bias are halves of 16 bits. Kernels call this for the
    rare channels whose bias or multiplier is too large for their own arithmetic.
    """
    x += ((bias_high - 0x8000) << 16) + bias_low
    left = shift - 31
    right = 0
    if left < 0:
        right = 0 - left
        left = 0
    limit = 0x3FFFFFFF
    if left:
        limit >>= left
        if x > limit:
            x = limit
        if x < 0 - limit:
            x = 0 - limit
        x <<= left
    high = x >> 16
    low = x & 0xFFFF
    a = high * m_low + (((low >> 1) * m_low + (((low & 1) * m_low) >> 1)) >> 15)
    b = low * m_high
    nudge = 0x4000
    if once and right:
        nudge = 0
    y = (a >> 15) + (b >> 15) + (((a & 0x7FFF) + (b & 0x7FFF) + nudge) >> 15) + ((high * m_high) << 1)
    if right:
        half = 1 << (right - 1)
        mask = half - 1 + half
        rest = y & mask
        threshold = mask >> 1
        if y < 0 and not once:
            threshold += 1
        y >>= right
        if rest > threshold:
            y += 1
    if y > 512:
        y = 512
    if y < -512:
        y = -512
    return y
