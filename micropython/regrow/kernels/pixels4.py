"""Weights of 4 bits or fewer over lists of pixels, those of two channels in the 16-bit lanes of one word."""

import micropython
from micropython import const

from . import pixels

_BIAS = const(0x20000000)
_MOST = const(4369)  # values, in sum, whose products with 15 fit in 16 bits


def run(p, arena, work, file):
    return pixels.run(p, arena, work, file, accumulate, 16)


@micropython.viper
def accumulate(  # noqa: PLR0912, PLR0915 (a call per part would cost more than its work)
    x: int,
    w: ptr32,
    tile: ptr8,
    p: ptr32,
    lists_at: int,
    ring: int,
    sums_at: int,
    row: int,
    rows: int,
    groups: int,
) -> int:
    """See pixels.run. x and w come first because viper keeps two variables in registers.

    The weights of one row of taps after the other are unpacked behind the sums. A word of sums starts at
    -2**31, so that its upper lane counts from -2**15. Its lanes are added to their sums behind 16 products of
    at most 255 * 15, or behind all of a row of taps where its values are small enough for that.
    """
    width = p[3]
    size = width * p[4]
    line = (width << 3) + 8 + ((size + size + size + 3) & -4)
    step = p[4] << 4
    taps = p[9] * step
    down = p[12]
    stride = 4 + (groups << 5)
    weights = ptr32(uint(tile) + (sums_at + p[22] * p[6] * stride))
    lowest = 0 - _BIAS
    lowest <<= 2
    skipped = p[20] * rows * p[6]
    g = 0
    while g < groups:
        outs_at = 4 + (g << 5)
        outs = ptr32(uint(tile) + (sums_at + outs_at))
        i = rows * p[6]
        while i:
            j = 0
            while j < 8:
                outs[j] = 0
                j += 1
            if not g:
                sums = ptr32(uint(outs) - 4)
                sums[0] = 0
            outs = ptr32(uint(outs) + stride)
            i -= 1
        ky = 0
        while ky < p[8]:
            packed = ptr8(uint(tile) + (g * p[27] + 128 + ky * (taps >> 2)))
            w = weights
            i = taps >> 4
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
            sums = ptr32(uint(tile) + sums_at)
            iy = row * p[10] - p[14] + ky * down
            oy = rows
            while oy:
                if iy < 0 or iy >= p[2]:
                    sums = ptr32(uint(sums) + p[6] * stride)
                    ox = 0
                else:
                    start = ptr8(uint(tile) + (lists_at + (iy - iy // ring * ring) * line))
                    line_places = ptr8(uint(start) + ((width << 3) + 8))
                    line_values = ptr8(uint(line_places) + (size << 1))
                    left = 0 - p[15]
                    ox = p[6]
                while ox:
                    begin = left
                    if begin < 0:
                        begin = 0
                    end = left + p[9]
                    if end > width:
                        end = width
                    w = ptr32(uint(start) + (begin << 3))
                    total = w[0]
                    x = w[1]
                    places = ptr16(uint(line_places) + (x << 1))
                    values = ptr8(uint(line_values) + x)
                    w = ptr32(uint(start) + (end << 3))
                    n = w[1] - x
                    total = w[0] - total
                    if not g:
                        sums[0] = sums[0] + total
                        skipped -= n
                    base = ptr8(uint(weights) - left * step)
                    while n:
                        i = n
                        if total > _MOST and i > 16:
                            i = 16
                        n -= i
                        rest = i & 3
                        i >>= 2
                        s0 = lowest
                        s1 = lowest
                        s2 = lowest
                        s3 = lowest
                        while i:
                            x = places[0]
                            w = ptr32(uint(base) + x)
                            x = values[0]
                            s0 = w[0] * x + s0
                            s1 = w[1] * x + s1
                            s2 = w[2] * x + s2
                            s3 = w[3] * x + s3
                            x = places[1]
                            w = ptr32(uint(base) + x)
                            x = values[1]
                            s0 = w[0] * x + s0
                            s1 = w[1] * x + s1
                            s2 = w[2] * x + s2
                            s3 = w[3] * x + s3
                            x = places[2]
                            w = ptr32(uint(base) + x)
                            x = values[2]
                            s0 = w[0] * x + s0
                            s1 = w[1] * x + s1
                            s2 = w[2] * x + s2
                            s3 = w[3] * x + s3
                            x = places[3]
                            w = ptr32(uint(base) + x)
                            x = values[3]
                            s0 = w[0] * x + s0
                            s1 = w[1] * x + s1
                            s2 = w[2] * x + s2
                            s3 = w[3] * x + s3
                            values = ptr8(uint(values) + 4)
                            places = ptr16(uint(places) + 8)
                            i -= 1
                        while rest:
                            x = places[0]
                            w = ptr32(uint(base) + x)
                            x = values[0]
                            s0 = w[0] * x + s0
                            s1 = w[1] * x + s1
                            s2 = w[2] * x + s2
                            s3 = w[3] * x + s3
                            values = ptr8(uint(values) + 1)
                            places = ptr16(uint(places) + 2)
                            rest -= 1
                        w = ptr32(uint(sums) + outs_at)
                        x = s0
                        w[0] = (x & 0xFFFF) + w[0]
                        w[1] = (x >> 16) + w[1] + 0x8000
                        x = s1
                        w[2] = (x & 0xFFFF) + w[2]
                        w[3] = (x >> 16) + w[3] + 0x8000
                        x = s2
                        w[4] = (x & 0xFFFF) + w[4]
                        w[5] = (x >> 16) + w[5] + 0x8000
                        x = s3
                        w[6] = (x & 0xFFFF) + w[6]
                        w[7] = (x >> 16) + w[7] + 0x8000
                    sums = ptr32(uint(sums) + stride)
                    left += p[11]
                    ox -= 1
                iy += p[10]
                oy -= 1
            ky += 1
        g += 1
    return skipped
