"""SOFTMAX in fixed point, as TFLite's reference kernel computes it with gemmlowp's functions.

Q(n) is a 32-bit fixed-point number with n integer bits; 1 in Q(0) is 2**31 - 1.
"""

import micropython
from micropython import const

_ONE = 0x7FFFFFFF
_SUM_BITS = const(12)


def run(p, arena, work, file):
    """Rows along the last axis; the file gives exp of the 256 differences to a row's maximum."""
    file.readinto(work, 1024)
    source = p[0]
    target = p[1]
    depth = p[3]
    row = 0
    while row < p[2]:
        top = highest(arena, source + row, depth)
        total = sum_of_exp(arena, source + row, depth, top, work)
        bits = 0
        while total >> bits:
            bits += 1
        scale = _one_over_one_plus((total << 32 - bits) - _ONE - 1)
        divide(arena, source + row, target + row, depth, top, work, scale, _SUM_BITS - 9 + bits)
        row += depth


@micropython.viper
def highest(arena: ptr8, source: int, depth: int) -> int:
    """The largest of `depth` values."""
    x = ptr8(uint(arena) + source)
    top = 0
    i = 0
    while i < depth:
        if x[i] > top:
            top = x[i]
        i += 1
    return top


@micropython.viper
def sum_of_exp(arena: ptr8, source: int, depth: int, top: int, exp: ptr32) -> int:
    """The sum, in Q(_SUM_BITS), of exp of each value less the largest."""
    x = ptr8(uint(arena) + source)
    total = 0
    i = 0
    while i < depth:
        total += ((exp[top - x[i]] >> (_SUM_BITS - 1)) + 1) >> 1
        i += 1
    return total


@micropython.viper
def divide(arena: ptr8, source: int, target: int, depth: int, top: int, exp: ptr32, scale: int, shift: int):
    """exp times the sum's reciprocal, its mantissa `scale` in Q(0), shifted right to units of 1/256."""
    x = ptr8(uint(arena) + source)
    out = ptr8(uint(arena) + target)
    high = scale >> 16
    low = scale & 0xFFFF
    i = 0
    while i < depth:
        e = exp[top - x[i]]
        m_high = e >> 16
        m_low = e & 0xFFFF
        a = high * m_low + (((low >> 1) * m_low + (((low & 1) * m_low) >> 1)) >> 15)
        b = low * m_high
        y = (a >> 15) + (b >> 15) + (((a & 0x7FFF) + (b & 0x7FFF) + 0x4000) >> 15) + ((high * m_high) << 1)
        y = ((y >> (shift - 1)) + 1) >> 1
        if y > 255:
            y = 255
        out[i] = y
        i += 1


def _one_over_one_plus(a):
    """1 / (1 + a) in Q(0) for 0 <= a < 1: Newton's division by (1 + a) / 2 in Q(2), then halved."""
    half = (a + _ONE + 1) >> 1
    x = 1515870810 + _high_mul(half, -1010580540)
    for _ in range(3):
        x += _high_mul(x, (1 << 29) - _high_mul(half, x)) << 2
    return min(x << 1, _ONE)


def _high_mul(a, b):
    """a * b / 2**31, halves upward: gemmlowp's SaturatingRoundingDoublingHighMul."""
    return (a * b + 0x40000000) >> 31
