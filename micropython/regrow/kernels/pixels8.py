"""Weights of 8 bits over lists of pixels, the eight of a group's channels side by side."""

import micropython

from . import pixels


def run(p, arena, work, file):
    return pixels.run(p, arena, work, file, accumulate, 8)


@micropython.viper
def accumulate(  # noqa: PLR0915 (a call per part would cost more than its work)
    x: int,
    w: ptr8,
    tile: ptr8,
    p: ptr32,
    lists_at: int,
    ring: int,
    sums_at: int,
    row: int,
    rows: int,
    groups: int,
) -> int:
    """See pixels.run. x and w come first because viper keeps two variables in registers."""
    width = p[3]
    size = width * p[4]
    line = (width << 3) + 8 + ((size + size + size + 3) & -4)
    places_at = (width << 3) + 8
    values_at = places_at + (size << 1)
    step = p[4] << 3
    taps = p[9] * step
    down = p[12]
    stride = 4 + (groups << 5)
    skipped = 0
    g = 0
    while g < groups:
        weights = ptr8(uint(tile) + (g * p[27] + 128))
        sums = ptr32(uint(tile) + sums_at)
        oy = row
        last = row + rows
        while oy < last:
            # the taps of the window that lie in the image: `tall` rows from tap ky on
            iy = oy * p[10] - p[14]
            ky = 0
            while iy < 0:
                iy += down
                ky += 1
            tall = 0
            i = iy
            while ky + tall < p[8] and i < p[2]:
                i += down
                tall += 1
            top = iy - iy // ring * ring
            left = 0 - p[15]
            ox = p[6]
            while ox:
                begin = left
                if begin < 0:
                    begin = 0
                end = left + p[9]
                if end > width:
                    end = width
                begin <<= 3
                end <<= 3
                base = ptr8(uint(weights) + (ky * taps - left * step))
                start = ptr8(uint(tile) + (lists_at + top * line))
                at = top
                total = 0
                some = 0
                s0 = 0
                s1 = 0
                s2 = 0
                s3 = 0
                s4 = 0
                s5 = 0
                s6 = 0
                s7 = 0
                j = tall
                while j:
                    marks = ptr32(uint(start) + begin)
                    ends = ptr32(uint(start) + end)
                    total += ends[0] - marks[0]
                    x = marks[1]
                    n = ends[1] - x
                    some += n
                    places = ptr16(uint(start) + ((x << 1) + places_at))
                    values = ptr8(uint(start) + (values_at + x))
                    i = n >> 2
                    while i:
                        x = places[0]
                        w = ptr8(uint(base) + x)
                        x = values[0]
                        s0 = w[0] * x + s0
                        s1 = w[1] * x + s1
                        s2 = w[2] * x + s2
                        s3 = w[3] * x + s3
                        s4 = w[4] * x + s4
                        s5 = w[5] * x + s5
                        s6 = w[6] * x + s6
                        s7 = w[7] * x + s7
                        x = places[1]
                        w = ptr8(uint(base) + x)
                        x = values[1]
                        s0 = w[0] * x + s0
                        s1 = w[1] * x + s1
                        s2 = w[2] * x + s2
                        s3 = w[3] * x + s3
                        s4 = w[4] * x + s4
                        s5 = w[5] * x + s5
                        s6 = w[6] * x + s6
                        s7 = w[7] * x + s7
                        x = places[2]
                        w = ptr8(uint(base) + x)
                        x = values[2]
                        s0 = w[0] * x + s0
                        s1 = w[1] * x + s1
                        s2 = w[2] * x + s2
                        s3 = w[3] * x + s3
                        s4 = w[4] * x + s4
                        s5 = w[5] * x + s5
                        s6 = w[6] * x + s6
                        s7 = w[7] * x + s7
                        x = places[3]
                        w = ptr8(uint(base) + x)
                        x = values[3]
                        s0 = w[0] * x + s0
                        s1 = w[1] * x + s1
                        s2 = w[2] * x + s2
                        s3 = w[3] * x + s3
                        s4 = w[4] * x + s4
                        s5 = w[5] * x + s5
                        s6 = w[6] * x + s6
                        s7 = w[7] * x + s7
                        values = ptr8(uint(values) + 4)
                        places = ptr16(uint(places) + 8)
                        i -= 1
                    i = n & 3
                    while i:
                        x = places[0]
                        w = ptr8(uint(base) + x)
                        x = values[0]
                        s0 = w[0] * x + s0
                        s1 = w[1] * x + s1
                        s2 = w[2] * x + s2
                        s3 = w[3] * x + s3
                        s4 = w[4] * x + s4
                        s5 = w[5] * x + s5
                        s6 = w[6] * x + s6
                        s7 = w[7] * x + s7
                        values = ptr8(uint(values) + 1)
                        places = ptr16(uint(places) + 2)
                        i -= 1
                    base = ptr8(uint(base) + taps)
                    start = ptr8(uint(start) + down * line)
                    at += down
                    if at >= ring:
                        at -= ring
                        start = ptr8(uint(start) - ring * line)
                    j -= 1
                sums[0] = total
                outs = ptr32(uint(sums) + (4 + (g << 5)))
                outs[0] = s0
                outs[1] = s1
                outs[2] = s2
                outs[3] = s3
                outs[4] = s4
                outs[5] = s5
                outs[6] = s6
                outs[7] = s7
                sums = ptr32(uint(sums) + stride)
                if not g:
                    skipped += p[20] - some
                left += p[11]
                ox -= 1
            oy += 1
        g += 1
    return skipped
