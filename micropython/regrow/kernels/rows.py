"""Weights of 8 bits row by row: where there is no room for the rows of eight channels."""

import micropython

from . import layer


def run(p, arena, work, file):
    return layer.run(p, arena, work, file, accumulate, 1)


@micropython.viper
def accumulate(  # noqa: PLR0915 (a call per part would cost more than its work)
    s: int,
    a: ptr8,
    columns: ptr8,
    place: int,
    tile: ptr8,
    p: ptr32,
    sums_at: int,
    positions: int,
    groups: int,
    first: int,
) -> int:
    """See layer.run. s and a come first because viper keeps two variables in registers."""
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
    eights = length >> 3
    rest = length & 7
    pad = p[27] - 16 - length
    while positions:
        a = start
        s = 0
        n = length
        while n:
            s = a[0] + s
            a = ptr8(uint(a) + 1)
            n -= 1
        sums[0] = s
        sums = ptr32(uint(sums) + 4)
        w = ptr8(uint(tile) + 16)
        g = groups
        while g:
            a = start
            s = 0
            n = eights
            while n:
                s = w[0] * a[0] + s
                s = w[1] * a[1] + s
                s = w[2] * a[2] + s
                s = w[3] * a[3] + s
                s = w[4] * a[4] + s
                s = w[5] * a[5] + s
                s = w[6] * a[6] + s
                s = w[7] * a[7] + s
                a = ptr8(uint(a) + 8)
                w = ptr8(uint(w) + 8)
                n -= 1
            n = rest
            while n:
                s = w[0] * a[0] + s
                a = ptr8(uint(a) + 1)
                w = ptr8(uint(w) + 1)
                n -= 1
            sums[0] = s
            sums = ptr32(uint(sums) + 4)
            w = ptr8(uint(w) + (pad + 16))
            g -= 1
        start = ptr8(uint(start) + step)
        across -= 1
        if across == 0:
            across = p[6]
            start = ptr8(uint(start) + jump)
        positions -= 1
    return 0
