"""The windows of a convolution as columns: what each of its positions takes from the image, side by side."""

import micropython


@micropython.viper
def gather(  # noqa: PLR0912, PLR0915 (a call per part would cost more than its work)
    i: int, a: ptr8, arena: ptr8, work: ptr8, p: ptr32, first: int, count: int
):
    """The columns of `count` positions from `first` on, each in a multiple of 4 bytes that ends with zeros.

    i and a come first because viper keeps two variables in registers; callers give 0 and the arena.
    """
    x = ptr8(uint(arena) + p[0])
    height = p[2]
    width = p[3]
    depth = p[4]
    taps_h = p[8]
    taps_w = p[9]
    down = p[12]
    zero = p[16]
    aligned = p[23] & 1
    target = ptr8(uint(work) + p[28])
    rest = p[21] - p[20]
    # all taps of a window's row lie side by side, unless they are dilated
    span = taps_w
    across = taps_w
    if p[13] > 1:
        span = 1
        across = width + 1  # no image is so wide
    line = width * depth
    # what is copied of a row of a window that lies in the image: eight or four bytes at a time, and the rest
    reach = (taps_h - 1) * down + 1
    eights = 0
    fours = span * depth >> 2
    ends = span * depth & 3
    if aligned:
        eights = span * depth >> 3
        fours = 0
    gap = down * line - span * depth
    oy = first // p[6]
    ox = first - oy * p[6]
    while count:
        iy = oy * p[10] - p[14]
        left = ox * p[11] - p[15]
        ky = taps_h
        if iy >= 0 and left >= 0 and iy + reach <= height and left + across <= width:
            # the whole window lies in the image
            a = ptr8(uint(x) + (iy * line + left * depth))
            while ky:
                i = eights
                if i:
                    halves = ptr16(target)
                    source = ptr16(a)
                    while i:
                        halves[0] = source[0]
                        halves[1] = source[1]
                        halves[2] = source[2]
                        halves[3] = source[3]
                        halves = ptr16(uint(halves) + 8)
                        source = ptr16(uint(source) + 8)
                        i -= 1
                    target = ptr8(halves)
                    a = ptr8(source)
                i = fours
                while i:
                    target[0] = a[0]
                    target[1] = a[1]
                    target[2] = a[2]
                    target[3] = a[3]
                    target = ptr8(uint(target) + 4)
                    a = ptr8(uint(a) + 4)
                    i -= 1
                i = ends
                while i:
                    target[0] = a[0]
                    target = ptr8(uint(target) + 1)
                    a = ptr8(uint(a) + 1)
                    i -= 1
                a = ptr8(uint(a) + gap)
                ky -= 1
        while ky:
            kx = taps_w
            ix = left
            while kx:
                # taps before, inside and behind the image's row
                before = 0
                inside = span
                if iy < 0 or iy >= height:
                    inside = 0
                    before = span
                else:
                    if ix < 0:
                        before = 0 - ix
                        if before > span:
                            before = span
                        inside = span - before
                    if ix + span > width:
                        inside = width - ix - before
                        if inside < 0:
                            inside = 0
                if before:
                    i = before * depth
                    while i:
                        target[0] = zero
                        target = ptr8(uint(target) + 1)
                        i -= 1
                if inside:
                    i = inside * depth
                    a = ptr8(uint(x) + (iy * line + (ix + before) * depth))
                    if aligned:
                        halves = ptr16(target)
                        source = ptr16(a)
                        target = ptr8(uint(target) + i)
                        while i:
                            halves[0] = source[0]
                            halves[1] = source[1]
                            halves[2] = source[2]
                            halves[3] = source[3]
                            halves = ptr16(uint(halves) + 8)
                            source = ptr16(uint(source) + 8)
                            i -= 8
                    while i > 3:
                        target[0] = a[0]
                        target[1] = a[1]
                        target[2] = a[2]
                        target[3] = a[3]
                        target = ptr8(uint(target) + 4)
                        a = ptr8(uint(a) + 4)
                        i -= 4
                    while i:
                        target[0] = a[0]
                        target = ptr8(uint(target) + 1)
                        a = ptr8(uint(a) + 1)
                        i -= 1
                i = span - before - inside
                if i:
                    i *= depth
                    while i:
                        target[0] = zero
                        target = ptr8(uint(target) + 1)
                        i -= 1
                kx -= span
                ix += p[13]
            ky -= 1
            iy += down
        i = rest
        while i:
            target[0] = 0
            target = ptr8(uint(target) + 1)
            i -= 1
        ox += 1
        if ox == p[6]:
            ox = 0
            oy += 1
        count -= 1
