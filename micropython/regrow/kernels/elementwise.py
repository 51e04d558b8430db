"""ADD, SUB and MUL of two tensors that broadcast; one may be a constant."""

import micropython
from micropython import const

_HEADROOM = const(20)
_HALF = const(0x10000000)
_BIAS = const(0x20000000)
_AXES = const(24)


def run(p, arena, work, file):
    file.readinto(work, p[12])
    if not p[8]:
        table(work, p[13], p[6], p[16], p[17], 0)
        table(work, p[13] + 1024, p[7], p[18], p[19], p[9])
    elementwise(0, work if p[10] else arena, work if p[11] else arena, arena, work, p)


@micropython.viper
def table(work: ptr8, place: int, zero: int, m: int, right: int, negative: int):
    """The 256 values of an input, scaled, _HALF above their value."""
    t = ptr32(uint(work) + place)
    m_high = m >> 16
    m_low = m & 0xFFFF
    i = 0
    while i < 256:
        high_bits = ((i - zero) << _HEADROOM) >> 15
        y = (((high_bits * m_low) >> 1) + 0x4000) >> 15
        y += high_bits * m_high
        if right:
            y = (y + (1 << (right - 1)) + (y >> 31)) >> right
        if negative:
            y = 0 - y
        t[i] = y + _HALF
        i += 1


@micropython.viper
def elementwise(s: int, a: ptr8, b: ptr8, arena: ptr8, axes: ptr32, p: ptr32):  # noqa: PLR0915 (as conv)
    """A sum of table entries or a product, requantized; an input may be the output. s and a as in conv."""
    a = ptr8(uint(a) + p[0])
    b = ptr8(uint(b) + p[1])
    out = ptr8(uint(arena) + p[2])
    low = p[3]
    high = p[4]
    zero = p[5]
    a_zero = p[6]
    b_zero = p[7]
    multiplies = p[8]
    m_high = p[14] >> 16
    m_low = p[14] & 0xFFFF
    right = p[15]
    left = p[16]
    a_table = ptr32(uint(axes) + p[13])
    b_table = ptr32(uint(a_table) + 1024)
    a_step = axes[2] - _BIAS
    b_step = axes[3] - _BIAS
    k = 0
    while k < _AXES:
        i = axes[1]
        while i:
            if multiplies:
                s = ((a[0] - a_zero) * (b[0] - b_zero)) << left
            else:
                s = a_table[a[0]] + b_table[b[0]] - _BIAS
            a = ptr8(uint(a) + a_step)
            b = ptr8(uint(b) + b_step)
            high_bits = s >> 15
            low_bits = s & 0x7FFF
            y = (((((low_bits * m_low) >> 15) + high_bits * m_low) >> 1) + low_bits * m_high + 0x4000) >> 15
            y += high_bits * m_high
            if right:
                y = (y + (1 << (right - 1)) + (y >> 31)) >> right
            y += zero
            if y < low:
                y = low
            if y > high:
                y = high
            out[0] = y
            out = ptr8(uint(out) + 1)
            i -= 1
        k = 4
        while k < _AXES:
            a = ptr8(uint(a) + (axes[k + 2] - _BIAS))
            b = ptr8(uint(b) + (axes[k + 3] - _BIAS))
            axes[k] = axes[k] - 1
            if axes[k]:
                break
            axes[k] = axes[k + 1]
            k += 4
