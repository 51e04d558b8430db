"""CONV_2D over lists: of each row of the image, the values that are not 0, listed once for all windows.

For images whose zero point is 0; what lies outside is 0 as well. The list of a row has for each pixel, and
behind the last one, words of the sum of all values before it and of how many of them are listed; then of each
of those the place of its weights in a tap of the first pixel (u16), then their values (u8). Of some rows the
lists are there at one time, of row y at y mod how many.
"""

import micropython

from .layer import finish


@micropython.native
def run(p, arena, work, file, accumulate, scale):
    """Run an op by the kernel `accumulate`, which takes p[22] rows of the output together.

    accumulate(0, work, work, p, place of the lists, how many there are, place of the sums, row, rows, groups)
    does as in layer.run, with `scale` bytes of weights to a term. Returns how many products were left out.
    """
    batch, tile, size = p[22], p[26], p[27]
    ring = (batch - 1) * p[10] + (p[8] - 1) * p[12] + 1
    lists = p[28]
    sums = lists + ring * (8 * p[3] + 8 + (3 * p[3] * p[4] + 3 & -4))
    out, left = p[1], p[7]
    skipped = 0
    while left:
        if tile > left:
            tile = left
        groups = (tile + 7) // 8
        file.readinto(work, groups * size)
        row = listed = 0
        while row < p[5]:
            count = p[5] - row
            if count > batch:
                count = batch
            first = row * p[10] - p[14]
            end = first + (count - 1) * p[10] + (p[8] - 1) * p[12] + 1
            if first > listed:
                listed = first
            if end > p[2]:
                end = p[2]
            if end > listed:
                enlist(0, 0, arena, work, p, lists, ring, listed, end, scale)
                listed = end
            skipped += tile * accumulate(0, work, work, p, lists, ring, sums, row, count, groups)
            finish(0, work, work, arena, p, sums, out + row * p[6] * p[7], count * p[6], tile, 8)
            row += count
        out += tile
        left -= tile
    return skipped


@micropython.viper
def enlist(  # noqa: PLR0915 (a call per part would cost more than its work)
    x: int,
    place: int,
    arena: ptr8,
    tile: ptr8,
    p: ptr32,
    lists_at: int,
    ring: int,
    first: int,
    end: int,
    scale: int,
):
    """List the rows `first` to `end` - 1 of the image, without a branch that goes either way too often.

    x and place come first as viper keeps two variables in registers.
    """
    depth = p[4]
    width = p[3]
    size = width * depth
    line = (width << 3) + 8 + ((size + size + size + 3) & -4)
    a = ptr8(uint(arena) + (p[0] + first * size))
    at = first - first // ring * ring
    while first < end:
        marks = ptr32(uint(tile) + (lists_at + at * line))
        places = ptr16(uint(marks) + ((width << 3) + 8))
        values = ptr8(uint(places) + (size << 1))
        start = values
        s = 0
        place = 0
        n = width
        while n:
            marks[0] = s
            marks[1] = int(uint(values) - uint(start))
            marks = ptr32(uint(marks) + 8)
            i = depth >> 2
            while i:
                x = a[0]
                s += x
                places[0] = place
                values[0] = x
                place += scale
                x = (x + 255) >> 8
                values = ptr8(uint(values) + x)
                places = ptr16(uint(places) + (x << 1))
                x = a[1]
                s += x
                places[0] = place
                values[0] = x
                place += scale
                x = (x + 255) >> 8
                values = ptr8(uint(values) + x)
                places = ptr16(uint(places) + (x << 1))
                x = a[2]
                s += x
                places[0] = place
                values[0] = x
                place += scale
                x = (x + 255) >> 8
                values = ptr8(uint(values) + x)
                places = ptr16(uint(places) + (x << 1))
                x = a[3]
                s += x
                places[0] = place
                values[0] = x
                place += scale
                x = (x + 255) >> 8
                values = ptr8(uint(values) + x)
                places = ptr16(uint(places) + (x << 1))
                a = ptr8(uint(a) + 4)
                i -= 1
            i = depth & 3
            while i:
                x = a[0]
                s += x
                places[0] = place
                values[0] = x
                place += scale
                x = (x + 255) >> 8
                values = ptr8(uint(values) + x)
                places = ptr16(uint(places) + (x << 1))
                a = ptr8(uint(a) + 1)
                i -= 1
            n -= 1
        marks[0] = s
        marks[1] = int(uint(values) - uint(start))
        first += 1
        at += 1
        if at == ring:
            at = 0
