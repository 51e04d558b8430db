"""Weights of 8 bits, the eight of a group's channels side by side: an input is loaded once for them all.

Where inputs are often zero, those of a position that are not are listed first, and all groups walk the list.
A layer of one position lists and sums its inputs for the first tile, and keeps that for the others.
"""

import micropython

from . import layer


def run(p, arena, work, file):
    return layer.run(p, arena, work, file, accumulate, 8)


@micropython.viper
def accumulate(  # noqa: PLR0912, PLR0915 (a call per part would cost more than its work)
    x: int,
    w: ptr8,
    columns: ptr8,
    place: int,
    tile: ptr8,
    p: ptr32,
    sums_at: int,
    positions: int,
    groups: int,
    first: int,
) -> int:
    """See layer.run; returns how many inputs were left out, over all positions.

    x and w come first because viper keeps two variables in registers.
    """
    sums = ptr32(uint(tile) + sums_at)
    length = p[21]
    lists = p[23] & 4
    kept = p[23] & 8
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
    listed = ptr32(uint(sums) + p[22] * (4 + ((p[26] + 7) >> 3 << 5)))
    few = (length * 13) >> 4
    size = p[27]
    fours = length >> 2
    rest = length & 3
    skipped = 0
    while positions:
        walked = 0
        if kept:
            sums[0] = p[29]
            walked = p[30]
            skipped = p[31]
        elif lists:
            # words of an input and, below it, of how many bytes into a group its weights are; branchless
            w = start
            words = listed
            y = 0
            i = 0
            n = fours
            while n:
                x = w[0]
                words[0] = (x << 16) + i
                words = ptr32(uint(words) + (((x + 255) >> 6) & 4))
                y += x
                x = w[1]
                words[0] = (x << 16) + i + 8
                words = ptr32(uint(words) + (((x + 255) >> 6) & 4))
                y += x
                x = w[2]
                words[0] = (x << 16) + i + 16
                words = ptr32(uint(words) + (((x + 255) >> 6) & 4))
                y += x
                x = w[3]
                words[0] = (x << 16) + i + 24
                words = ptr32(uint(words) + (((x + 255) >> 6) & 4))
                y += x
                w = ptr8(uint(w) + 4)
                i += 32
                n -= 1
            n = rest
            while n:
                x = w[0]
                words[0] = (x << 16) + i
                words = ptr32(uint(words) + (((x + 255) >> 6) & 4))
                y += x
                w = ptr8(uint(w) + 1)
                i += 8
                n -= 1
            sums[0] = y
            n = int(uint(words) - uint(listed)) >> 2
            if n >= few:
                lists = 0
            else:
                skipped += length - n
                walked = (n + 3) >> 2
                n = 3
                while n:
                    words[0] = 0
                    words = ptr32(uint(words) + 4)
                    n -= 1
                walked += 1
        else:
            w = start
            x = 0
            n = fours
            while n:
                x = w[0] + x
                x = w[1] + x
                x = w[2] + x
                x = w[3] + x
                w = ptr8(uint(w) + 4)
                n -= 1
            n = rest
            while n:
                x = w[0] + x
                w = ptr8(uint(w) + 1)
                n -= 1
            sums[0] = x
        p[29] = sums[0]
        p[30] = walked
        p[31] = skipped
        sums = ptr32(uint(sums) + 4)
        group = ptr8(uint(tile) + 128)
        g = groups
        while g:
            s0 = 0
            s1 = 0
            s2 = 0
            s3 = 0
            s4 = 0
            s5 = 0
            s6 = 0
            s7 = 0
            if walked:
                halves = ptr16(listed)
                n = walked - 1
                while n:
                    x = halves[1]
                    w = ptr8(uint(group) + halves[0])
                    s0 = w[0] * x + s0
                    s1 = w[1] * x + s1
                    s2 = w[2] * x + s2
                    s3 = w[3] * x + s3
                    s4 = w[4] * x + s4
                    s5 = w[5] * x + s5
                    s6 = w[6] * x + s6
                    s7 = w[7] * x + s7
                    x = halves[3]
                    w = ptr8(uint(group) + halves[2])
                    s0 = w[0] * x + s0
                    s1 = w[1] * x + s1
                    s2 = w[2] * x + s2
                    s3 = w[3] * x + s3
                    s4 = w[4] * x + s4
                    s5 = w[5] * x + s5
                    s6 = w[6] * x + s6
                    s7 = w[7] * x + s7
                    x = halves[5]
                    w = ptr8(uint(group) + halves[4])
                    s0 = w[0] * x + s0
                    s1 = w[1] * x + s1
                    s2 = w[2] * x + s2
                    s3 = w[3] * x + s3
                    s4 = w[4] * x + s4
                    s5 = w[5] * x + s5
                    s6 = w[6] * x + s6
                    s7 = w[7] * x + s7
                    x = halves[7]
                    w = ptr8(uint(group) + halves[6])
                    s0 = w[0] * x + s0
                    s1 = w[1] * x + s1
                    s2 = w[2] * x + s2
                    s3 = w[3] * x + s3
                    s4 = w[4] * x + s4
                    s5 = w[5] * x + s5
                    s6 = w[6] * x + s6
                    s7 = w[7] * x + s7
                    halves = ptr16(uint(halves) + 16)
                    n -= 1
            else:
                w = group
                a = start
                n = fours
                while n:
                    x = a[0]
                    s0 = w[0] * x + s0
                    s1 = w[1] * x + s1
                    s2 = w[2] * x + s2
                    s3 = w[3] * x + s3
                    s4 = w[4] * x + s4
                    s5 = w[5] * x + s5
                    s6 = w[6] * x + s6
                    s7 = w[7] * x + s7
                    x = a[1]
                    s0 = w[8] * x + s0
                    s1 = w[9] * x + s1
                    s2 = w[10] * x + s2
                    s3 = w[11] * x + s3
                    s4 = w[12] * x + s4
                    s5 = w[13] * x + s5
                    s6 = w[14] * x + s6
                    s7 = w[15] * x + s7
                    x = a[2]
                    s0 = w[16] * x + s0
                    s1 = w[17] * x + s1
                    s2 = w[18] * x + s2
                    s3 = w[19] * x + s3
                    s4 = w[20] * x + s4
                    s5 = w[21] * x + s5
                    s6 = w[22] * x + s6
                    s7 = w[23] * x + s7
                    x = a[3]
                    s0 = w[24] * x + s0
                    s1 = w[25] * x + s1
                    s2 = w[26] * x + s2
                    s3 = w[27] * x + s3
                    s4 = w[28] * x + s4
                    s5 = w[29] * x + s5
                    s6 = w[30] * x + s6
                    s7 = w[31] * x + s7
                    a = ptr8(uint(a) + 4)
                    w = ptr8(uint(w) + 32)
                    n -= 1
                n = rest
                while n:
                    x = a[0]
                    s0 = w[0] * x + s0
                    s1 = w[1] * x + s1
                    s2 = w[2] * x + s2
                    s3 = w[3] * x + s3
                    s4 = w[4] * x + s4
                    s5 = w[5] * x + s5
                    s6 = w[6] * x + s6
                    s7 = w[7] * x + s7
                    a = ptr8(uint(a) + 1)
                    w = ptr8(uint(w) + 8)
                    n -= 1
            sums[0] = s0
            sums[1] = s1
            sums[2] = s2
            sums[3] = s3
            sums[4] = s4
            sums[5] = s5
            sums[6] = s6
            sums[7] = s7
            sums = ptr32(uint(sums) + 32)
            group = ptr8(uint(group) + size)
            g -= 1
        start = ptr8(uint(start) + step)
        across -= 1
        if across == 0:
            across = p[6]
            start = ptr8(uint(start) + jump)
        positions -= 1
    return skipped
