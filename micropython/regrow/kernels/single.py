"""Weights that are mostly zero, in a layer with one position: the others are walked row by row.

All tiles come before the heads of the channels, so that their sums are finished at one time.
"""

import micropython
from micropython import const

from .once import finish_all

_BIAS = const(0x20000000)


@micropython.native
def run(p, arena, work, file):
    size = p[27]
    left = p[26]
    while left:
        file.readinto(work, size)
        accumulate(0, work, arena, p)
        left -= 1
    return finish_all(p, arena, work, file)


@micropython.viper
def accumulate(s: int, w: ptr8, arena: ptr8, p: ptr32):
    """The sums of the tile's rows, _BIAS more, behind those of the tiles before. s and w come first because
    viper keeps two variables in registers."""
    start = ptr8(uint(arena) + p[0])
    rows = w[0] + (w[1] << 8)
    sums = ptr32(uint(w) + (p[28] + (p[22] << 2)))
    p[22] = p[22] + rows
    blocks = (p[20] + 255) >> 8
    w = ptr8(uint(w) + 2)
    while rows:
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
        sums = ptr32(uint(sums) + 4)
        sums[0] = s
        rows -= 1
