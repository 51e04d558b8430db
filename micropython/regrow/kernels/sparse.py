"""Weights that are mostly zero: the others are walked row by row.

In front of a tile stand its bytes and, from bit 20 on, its channels.
"""

import micropython
from micropython import const

from . import layer

_BIAS = const(0x20000000)


def run(p, arena, work, file):
    file.readinto(work, 4)
    p[27] = 4
    return layer.run(p, arena, work, file, accumulate, 0, read)


@micropython.native
def read(work, file, p):
    """Bring a tile to the front of the work, and behind it the word of the next one; gives its channels."""
    about = word(work, p[27])
    size = (about & 0xFFFFF) + 4
    file.readinto(work, size)
    p[27] = size
    return about >> 20


@micropython.viper
def word(work: ptr32, end: int) -> int:
    return work[(end >> 2) - 1]


@micropython.viper
def accumulate(
    s: int,
    w: ptr8,
    columns: ptr8,
    place: int,
    tile: ptr8,
    p: ptr32,
    sums_at: int,
    positions: int,
    rows: int,
    first: int,
) -> int:
    """See layer.run: each sum is _BIAS more, as is what stands for the sum of the column. s and w come first
    because viper keeps two variables in registers."""
    sums = ptr32(uint(tile) + sums_at)
    step = p[21]
    jump = 0
    across = 0
    if not p[23] & 2:
        step = p[11] * p[4]
        jump = (p[10] * p[3] - p[6] * p[11]) * p[4]
        y = first // p[6]
        across = p[6] - (first - y * p[6])
        place += y * (p[10] * p[3] * p[4]) + (p[6] - across) * step
    start = ptr8(uint(columns) + place)
    blocks = (p[20] + 255) >> 8
    while positions:
        sums[0] = _BIAS
        w = ptr8(uint(tile) + (rows << 4))
        g = rows
        while g:
            sums = ptr32(uint(sums) + 4)
            a = start
            s = _BIAS
            b = blocks
            while b:
                while w[0]:
                    s = (w[0] - 128) * a[w[1]] + s
                    s = (w[2] - 128) * a[w[3]] + s
                    s = (w[4] - 128) * a[w[5]] + s
                    s = (w[6] - 128) * a[w[7]] + s
                    s = (w[8] - 128) * a[w[9]] + s
                    s = (w[10] - 128) * a[w[11]] + s
                    s = (w[12] - 128) * a[w[13]] + s
                    s = (w[14] - 128) * a[w[15]] + s
                    w = ptr8(uint(w) + 16)
                w = ptr8(uint(w) + 1)
                a = ptr8(uint(a) + 256)
                b -= 1
            sums[0] = s
            g -= 1
        sums = ptr32(uint(sums) + 4)
        start = ptr8(uint(start) + step)
        across -= 1
        if across == 0:
            across = p[6]
            start = ptr8(uint(start) + jump)
        positions -= 1
    return 0
