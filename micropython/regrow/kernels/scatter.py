"""Weights that are mostly zero where inputs often are, too: each input that is not 0 adds its products to the
sums of its channels.

A layer with one position has tiles of some inputs each, then the heads of all channels. Where there are more
positions, all stands in one tile, the heads in front.
"""

import micropython
from micropython import const

from . import layer
from .once import finish_all

_BIAS = const(0x20000000)


@micropython.native
def run(p, arena, work, file):
    p[30] = 0
    if p[5] * p[6] > 1:
        return layer.run(p, arena, work, file, accumulate, p[7]) + p[30]
    size = p[27]
    sums = p[28]
    left = p[26]
    start(work, sums, p[7])
    while left:
        file.readinto(work, size)
        p[0] += accumulate(work, work, arena, p[0], work, p, sums, 1, 0, 0)
        left -= 1
    return finish_all(p, arena, work, file) + p[30]


@micropython.viper
def start(work: ptr8, sums_at: int, channels: int):
    """Sums of _BIAS, behind that of the column, which heads have in them."""
    sums = ptr32(uint(work) + sums_at)
    while channels:
        sums = ptr32(uint(sums) + 4)
        sums[0] = _BIAS
        channels -= 1


@micropython.viper
def accumulate(  # noqa: PLR0915 (a call per part would cost more than its work)
    t: ptr32,
    w: ptr8,
    columns: ptr8,
    place: int,
    tile: ptr8,
    p: ptr32,
    sums_at: int,
    positions: int,
    whole: int,
    first: int,
) -> int:
    """See layer.run, if the tile has the whole layer. Else add what its inputs make, and return their number.

    p[30] counts the weights that are not 0 of inputs that are. t and w come first because viper keeps two
    variables in registers.
    """
    sums = ptr32(uint(tile) + sums_at)
    step = p[11] * p[4]
    jump = (p[10] * p[3] - p[6] * p[11]) * p[4]
    y = first // p[6]
    across = p[6] - (first - y * p[6])
    place += y * (p[10] * p[3] * p[4]) + (p[6] - across) * step
    start = ptr8(uint(columns) + place)
    rows = p[7] * whole
    skipped = p[30]
    inputs = 0
    while positions:
        if whole:
            t = sums
            t[0] = _BIAS
            n = rows
            while n:
                t = ptr32(uint(t) + 4)
                t[0] = _BIAS
                n -= 1
        w = ptr8(uint(tile) + (rows << 4))
        inputs = w[0] + (w[1] << 8)
        w = ptr8(uint(w) + 2)
        a = start
        n = inputs
        while n:
            x = a[0]
            a = ptr8(uint(a) + 1)
            if x:
                w = ptr8(uint(w) + 2)
                t = sums
                while w[0]:
                    t = ptr32(uint(t) + w[1])
                    t[0] = (w[0] - 128) * x + t[0]
                    t = ptr32(uint(t) + w[3])
                    t[0] = (w[2] - 128) * x + t[0]
                    t = ptr32(uint(t) + w[5])
                    t[0] = (w[4] - 128) * x + t[0]
                    t = ptr32(uint(t) + w[7])
                    t[0] = (w[6] - 128) * x + t[0]
                    t = ptr32(uint(t) + w[9])
                    t[0] = (w[8] - 128) * x + t[0]
                    t = ptr32(uint(t) + w[11])
                    t[0] = (w[10] - 128) * x + t[0]
                    t = ptr32(uint(t) + w[13])
                    t[0] = (w[12] - 128) * x + t[0]
                    t = ptr32(uint(t) + w[15])
                    t[0] = (w[14] - 128) * x + t[0]
                    w = ptr8(uint(w) + 16)
                w = ptr8(uint(w) + 1)
            else:
                steps = w[0]
                skipped += (steps << 3) - w[1]
                w = ptr8(uint(w) + ((steps << 4) + 3))
            n -= 1
        sums = ptr32(uint(sums) + ((rows + 1) << 2))
        start = ptr8(uint(start) + step)
        across -= 1
        if across == 0:
            across = p[6]
            start = ptr8(uint(start) + jump)
        positions -= 1
    p[30] = skipped
    if whole:
        return 0
    return inputs
