"""Weights that are mostly zero: the others are walked row by row."""

import micropython
from micropython import const

from . import layer

_BIAS = const(0x20000000)


def run(p, arena, work, file):
    file.readinto(work, 4)
    p[27] = 4
    return layer.run(p, arena, work, file, accumulate, 0, read)


def read(work, file, p):
    """Bring a tile to the front of the work, and behind it how long the next one is."""
    size = word(work, p[27]) + 4
    file.readinto(work, size)
    p[27] = size


@micropython.viper
def word(work: ptr32, end: int) -> int:
    return work[(end >> 2) - 1]


@micropython.viper
def accumulate(  # noqa: PLR0915 (a call per part would cost more than its work)
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
    length = p[21]
    step = length
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
            s = 0
            b = blocks
            while b:
                n = w[0]
                more = w[1]
                w = ptr8(uint(w) + 4)
                s = 0 - s
                while n:
                    s = a[w[1]] * w[0] + s
                    s = a[w[3]] * w[2] + s
                    s = a[w[5]] * w[4] + s
                    s = a[w[7]] * w[6] + s
                    w = ptr8(uint(w) + 8)
                    n -= 1
                s = 0 - s
                n = more
                while n:
                    s = a[w[1]] * w[0] + s
                    s = a[w[3]] * w[2] + s
                    s = a[w[5]] * w[4] + s
                    s = a[w[7]] * w[6] + s
                    w = ptr8(uint(w) + 8)
                    n -= 1
                a = ptr8(uint(a) + 256)
                b -= 1
            sums[0] = s + _BIAS
            g -= 1
        sums = ptr32(uint(sums) + 4)
        start = ptr8(uint(start) + step)
        across -= 1
        if across == 0:
            across = p[6]
            start = ptr8(uint(start) + jump)
        positions -= 1
    return 0
