"""TFLite's fixed-point multipliers and rounding, without floats.

A scale is given by the bits of its float32; products and quotients are rounded as a double rounds them, in
exact integers, since a board's floats have 24 bits or fewer.
"""

from micropython import const

from .errors import PackError

BIAS = const(0x20000000)
"""Added to the biases in a record, so that words are positive: viper loads them unsigned where ints have 64
bits."""
WIDE = const(32)
"""Added to the left shift + 31 of a channel that kernels/wide.py requantizes."""

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


def rounded(number):
    """A pair (m, e) as the nearest float32."""
    m, shift = _round(number[0], 0, _FLOAT_BITS)
    return m, number[1] + shift


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


def requantize(acc, m, shift, once=False):
    """acc * m * 2**(shift - 31) as TFLite rounds it: twice, or `once` for FULLY_CONNECTED."""
    if once:
        return (acc * m + (1 << 30 - shift)) >> 31 - shift
    y = ((acc << max(shift, 0)) * m + (1 << 30)) >> 31
    if shift < 0:
        y = (y + (1 << -shift - 1) - (y < 0)) >> -shift
    return y


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
