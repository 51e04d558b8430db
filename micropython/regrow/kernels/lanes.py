"""Weights of 4 bits or fewer, those of two channels in the 16-bit lanes of one word.

A multiplication makes two products. A tile has the weights packed, a byte for two.
"""

import micropython
from micropython import const

from . import layer

_BIAS = const(0x20000000)
_MOST = const(4369)  # values, in sum, whose products with 15 fit in 16 bits


def run(p, arena, work, file):
    return layer.run(p, arena, work, file, accumulate, 8)


@micropython.viper
def accumulate(  # noqa: PLR0912, PLR0915 (a call per part would cost more than its work)
    x: int,
    w: ptr32,
    columns: ptr8,
    place: int,
    tile: ptr8,
    p: ptr32,
    sums_at: int,
    positions: int,
    groups: int,
    first: int,
) -> int:
    """See layer.run. x and w come first because viper keeps two variables in registers.

    Group by group is unpacked behind the sums. A word of sums starts at -2**31, so that its upper lane counts
    from -2**15, and takes 16 products of at most 255 * 15 a lane before its lanes are added to their sums.
    """
    length = p[21]
    step = length
    jump = 0
    column = 0
    if not p[23] & 2:
        step = p[11] * p[4]
        jump = (p[10] * p[3] - p[6] * p[11]) * p[4]
        y = first // p[6]
        column = first - y * p[6]
        place += y * (p[10] * p[3] * p[4]) + column * step
    stride = 4 + (groups << 5)
    sums = ptr32(uint(tile) + sums_at)
    words = ptr32(uint(sums) + stride * p[22])
    lowest = 0 - _BIAS
    lowest <<= 2
    rest = length & 3
    a = ptr8(uint(columns) + place)
    n = positions
    across = p[6] - column
    while n:
        start = a
        x = 0
        i = length >> 2
        while i:
            x = a[0] + x
            x = a[1] + x
            x = a[2] + x
            x = a[3] + x
            a = ptr8(uint(a) + 4)
            i -= 1
        i = rest
        while i:
            x = a[0] + x
            a = ptr8(uint(a) + 1)
            i -= 1
        sums[0] = x
        sums = ptr32(uint(sums) + stride)
        a = ptr8(uint(start) + step)
        across -= 1
        if across == 0:
            across = p[6]
            a = ptr8(uint(a) + jump)
        n -= 1
    packed = ptr8(tile)
    g = 0
    while g < groups:
        packed = ptr8(uint(packed) + 128)
        w = words
        i = length
        while i:
            x = packed[0]
            w[0] = (x * 0x1001) & 0xF000F
            x = packed[1]
            w[1] = (x * 0x1001) & 0xF000F
            x = packed[2]
            w[2] = (x * 0x1001) & 0xF000F
            x = packed[3]
            w[3] = (x * 0x1001) & 0xF000F
            packed = ptr8(uint(packed) + 4)
            w = ptr32(uint(w) + 16)
            i -= 1
        sums = ptr32(uint(tile) + (sums_at + 4 + (g << 5)))
        start = ptr8(uint(columns) + place)
        across = p[6] - column
        n = positions
        while n:
            w = words
            a = start
            t0 = 0
            t1 = 0
            t2 = 0
            t3 = 0
            t4 = 0
            t5 = 0
            t6 = 0
            t7 = 0
            block = length
            if sums[0 - 1 - (g << 3)] > _MOST:
                block = 16
            left = length
            while left:
                i = block
                if i > left:
                    i = left
                left -= i
                rest = i & 3
                i >>= 2
                s0 = lowest
                s1 = lowest
                s2 = lowest
                s3 = lowest
                while i:
                    x = a[0]
                    s0 = w[0] * x + s0
                    s1 = w[1] * x + s1
                    s2 = w[2] * x + s2
                    s3 = w[3] * x + s3
                    x = a[1]
                    s0 = w[4] * x + s0
                    s1 = w[5] * x + s1
                    s2 = w[6] * x + s2
                    s3 = w[7] * x + s3
                    x = a[2]
                    s0 = w[8] * x + s0
                    s1 = w[9] * x + s1
                    s2 = w[10] * x + s2
                    s3 = w[11] * x + s3
                    x = a[3]
                    s0 = w[12] * x + s0
                    s1 = w[13] * x + s1
                    s2 = w[14] * x + s2
                    s3 = w[15] * x + s3
                    a = ptr8(uint(a) + 4)
                    w = ptr32(uint(w) + 64)
                    i -= 1
                while rest:
                    x = a[0]
                    s0 = w[0] * x + s0
                    s1 = w[1] * x + s1
                    s2 = w[2] * x + s2
                    s3 = w[3] * x + s3
                    a = ptr8(uint(a) + 1)
                    w = ptr32(uint(w) + 16)
                    rest -= 1
                t0 = (s0 & 0xFFFF) + t0
                t1 = (s0 >> 16) + t1 + 0x8000
                t2 = (s1 & 0xFFFF) + t2
                t3 = (s1 >> 16) + t3 + 0x8000
                t4 = (s2 & 0xFFFF) + t4
                t5 = (s2 >> 16) + t5 + 0x8000
                t6 = (s3 & 0xFFFF) + t6
                t7 = (s3 >> 16) + t7 + 0x8000
            sums[0] = t0
            sums[1] = t1
            sums[2] = t2
            sums[3] = t3
            sums[4] = t4
            sums[5] = t5
            sums[6] = t6
            sums[7] = t7
            sums = ptr32(uint(sums) + stride)
            start = ptr8(uint(start) + step)
            across -= 1
            if across == 0:
                across = p[6]
                start = ptr8(uint(start) + jump)
            n -= 1
        g += 1
    return 0
