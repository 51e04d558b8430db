"""ADD of two activations of one shape."""

import micropython
from micropython import const

_HEADROOM = const(20)
_BIAS = const(0x20000000)


def run(p, arena, work, file):
    tables(work, p)
    if p[15]:
        stairs(work, p)
        climb(0, arena, arena, work, p)
    else:
        add(0, arena, arena, work, p)


@micropython.viper
def tables(t: ptr32, p: ptr32):
    """The 256 values of either input, scaled, from the lowest on."""
    which = 9
    while which < 15:
        m_high = p[which + 1] >> 16
        m_low = p[which + 1] & 0xFFFF
        right = p[which + 2]
        lowest = 0
        i = 0
        while i < 256:
            high_bits = ((i - p[which]) << _HEADROOM) >> 15
            y = (((high_bits * m_low) >> 1) + 0x4000) >> 15
            y += high_bits * m_high
            if right:
                y = (y + (1 << (right - 1)) + (y >> 31)) >> right
            if not i:
                lowest = y
            t[i] = y - lowest
            i += 1
        t = ptr32(uint(t) + 1024)
        which += 3


@micropython.viper
def stairs(t: ptr32, p: ptr32):
    """Words for the p[18] stretches of 2**p[15] sums, in which the output grows by 1 at most.

    The output is (word + sum mod 2**p[15]) >> p[15]. Where it grows is tried out, near where it should be.
    """
    words = ptr32(uint(t) + 2048)
    high = p[5]
    m_high = p[7] >> 16
    m_low = p[7] & 0xFFFF
    right = p[8]
    n = p[15]
    s = p[17] - _BIAS
    count = p[18]
    first = p[19] - _BIAS
    end = first + (count << n)
    y = p[20]
    k = 0
    while y < high and s < end:
        came = 0  # 1: from a sum below that is too small; 2: from one above that is not; 3: found
        while came < 3:
            high_bits = s >> 15
            low_bits = s & 0x7FFF
            x = (((((low_bits * m_low) >> 15) + high_bits * m_low) >> 1) + low_bits * m_high + 0x4000) >> 15
            x += high_bits * m_high
            if right:
                x = (x + (1 << (right - 1)) + (x >> 31)) >> right
            if x + p[6] > y:
                if came == 1:
                    came = 3
                else:
                    came = 2
                    s -= 1
            else:
                s += 1
                came = 3 if came == 2 else 1
        place = s - first
        if place > 0:
            while k < place >> n and k < count:
                words[k] = y << n
                k += 1
            if k < count:
                words[k] = (y << n) + (1 << n) - (place & ((1 << n) - 1))
                k += 1
        y += 1
        s += p[16]
    while k < count:
        words[k] = y << n
        k += 1


@micropython.viper
def climb(s: int, a: ptr8, arena: ptr8, t: ptr32, p: ptr32):
    """The outputs; an input may be the output. s and a come first as viper keeps two in registers."""
    a = ptr8(uint(arena) + p[0])
    b = ptr8(uint(arena) + p[1])
    out = ptr8(uint(arena) + p[2])
    b_table = ptr32(uint(t) + 1024)
    words = ptr32(uint(t) + 2048)
    n = p[15]
    below = (1 << n) - 1
    i = p[3] >> 2
    while i:
        s = t[a[0]] + b_table[b[0]]
        out[0] = (words[s >> n] + (s & below)) >> n
        s = t[a[1]] + b_table[b[1]]
        out[1] = (words[s >> n] + (s & below)) >> n
        s = t[a[2]] + b_table[b[2]]
        out[2] = (words[s >> n] + (s & below)) >> n
        s = t[a[3]] + b_table[b[3]]
        out[3] = (words[s >> n] + (s & below)) >> n
        a = ptr8(uint(a) + 4)
        b = ptr8(uint(b) + 4)
        out = ptr8(uint(out) + 4)
        i -= 1
    i = p[3] & 3
    while i:
        s = t[a[0]] + b_table[b[0]]
        out[0] = (words[s >> n] + (s & below)) >> n
        a = ptr8(uint(a) + 1)
        b = ptr8(uint(b) + 1)
        out = ptr8(uint(out) + 1)
        i -= 1


@micropython.viper
def add(s: int, a: ptr8, arena: ptr8, t: ptr32, p: ptr32):
    """The same where stairs would take too many words: each sum is requantized."""
    a = ptr8(uint(arena) + p[0])
    b = ptr8(uint(arena) + p[1])
    out = ptr8(uint(arena) + p[2])
    b_table = ptr32(uint(t) + 1024)
    low = p[4]
    high = p[5]
    zero = p[6]
    m_high = p[7] >> 16
    m_low = p[7] & 0xFFFF
    right = p[8]
    first = p[19] - _BIAS
    i = p[3]
    while i:
        s = t[a[0]] + b_table[b[0]] + first
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
        a = ptr8(uint(a) + 1)
        b = ptr8(uint(b) + 1)
        out = ptr8(uint(out) + 1)
        i -= 1
