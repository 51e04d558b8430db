"""ADD of two activations of one shape."""

import micropython
from micropython import const

_HEADROOM = const(20)
_HALF = const(0x10000000)


def run(p, arena, work, file):
    add(arena, work, p)


@micropython.viper
def add(arena: ptr8, tables: ptr32, p: ptr32):
    """The sum of two table entries (_HALF above their value), requantized; an input may be the output."""
    t = tables
    which = 9
    while which < 15:
        m_high = p[which + 1] >> 16
        m_low = p[which + 1] & 0xFFFF
        right = p[which + 2]
        i = 0
        while i < 256:
            s = (i - p[which]) << _HEADROOM
            high_bits = s >> 15
            y = (((high_bits * m_low) >> 1) + 0x4000) >> 15
            y += high_bits * m_high
            if right:
                y = (y + (1 << (right - 1)) + (y >> 31)) >> right
            t[i] = y + _HALF
            i += 1
        t = ptr32(uint(t) + 1024)
        which += 3
    a = ptr8(uint(arena) + p[0])
    b = ptr8(uint(arena) + p[1])
    out = ptr8(uint(arena) + p[2])
    t = ptr32(uint(tables) + 1024)
    low = p[4]
    high = p[5]
    zero = p[6]
    m_high = p[7] >> 16
    m_low = p[7] & 0xFFFF
    right = p[8]
    i = 0
    while i < p[3]:
        s = tables[a[i]] + t[b[i]] - 0x20000000
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
        out[i] = y
        i += 1
