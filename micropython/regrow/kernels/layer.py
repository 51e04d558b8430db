"""CONV_2D and FULLY_CONNECTED: what all forms of their weights share.

A tile, the rows of some output channels, is used for all positions as it passes, a batch of positions at a
time: `gather` puts what their windows take from the image side by side in columns (an op of 1x1 finds its
columns in the arena), the form's kernel sums the products, and `finish` makes outputs of the sums.
"""

import micropython
from micropython import const

from .columns import gather
from .wide import wide

_WIDE = const(32)
_BIAS = const(0x20000000)
_TOP = const(0x80000)


@micropython.native
def run(p, arena, work, file, accumulate, width, read=None):
    """Run an op by the kernel `accumulate` of a form that has `width` channels in a group (0: all of a tile).

    accumulate(0, work, columns, x, work, p, place of the sums, positions, groups): for each position the sum
    of the column that stands at x of `columns`, then, for each channel of each group in the tile, the sum of
    its products with the weights; what it returns is how many inputs it left out. Behind the first tile of a
    layer with one position p[23] & 8 is set: what a kernel kept in p[29] to p[31] is still true. `read(work,
    file, p)` brings a tile to the front of the work and gives its channels, where tiles differ. Returns how
    many products with zeros were left out.
    """
    batch, tile, size = p[22], p[26], p[27]
    positions = p[5] * p[6]
    gathers = p[23] & 2
    columns = work if gathers else arena
    column = p[28] if gathers else p[0]
    sums = p[28] + (batch * p[21] if gathers else 0)
    out, left = p[1], p[7]
    skipped = p[29]
    while left:
        if read:
            groups = tile = read(work, file, p)
        else:
            if tile > left:
                tile = left
            groups = (tile + width - 1) // width
            file.readinto(work, groups * size)
        first = 0
        while first < positions:
            count = positions - first
            if count > batch:
                count = batch
            if gathers:
                gather(0, arena, arena, work, p, first, count)
            skipped += tile * accumulate(0, work, columns, column, work, p, sums, count, groups, first)
            finish(0, work, work, arena, p, sums, out + first * p[7], count, tile, width or tile)
            first += count
        if positions == 1:
            p[23] |= 8
        out += tile
        left -= tile
    return skipped


@micropython.viper
def finish(  # noqa: PLR0912, PLR0915 (a call per part would cost more than its work)
    s: int,
    head: ptr16,
    tile: ptr8,
    arena: ptr8,
    p: ptr32,
    sums_at: int,
    y: int,
    positions: int,
    count: int,
    width: int,
):
    """Outputs of `count` channels at some positions, from y of the arena on.

    With inputs a and weights w as they are stored, of zero points z and v: the sum of (a - z) * (w - v) is
    the sum of a * w, less v * the sum of a, less z * the sum of (w - v), which the row's bias has in it.
    Where nothing below zero counts, negative sums are 0 without a branch, which would go either way too
    often, and four channels are done at a time unless one of them has too large a sum. s and head come first
    because viper keeps two variables in registers; a product of two others would go over the stack.
    """
    sums = ptr32(uint(tile) + sums_at)
    out = ptr8(uint(arena) + y)
    low = p[17]
    high = p[18]
    away = 0x800 - (p[24] << 11)
    signed = low - p[19]
    gap = p[7] - count
    while positions:
        offset = sums[0] * p[25] + _BIAS + _BIAS
        sums = ptr32(uint(sums) + 4)
        group = ptr8(tile)
        left = count
        while left:
            n = width
            if n > left:
                n = left
            left -= n
            head = ptr16(group)
            group = ptr8(uint(group) + p[27])
            unused = (width - n) << 2
            while n:
                few = n
                if n > 3 and not signed:
                    few = 4
                    words = ptr32(head)
                    s = words[0]
                    s = s - offset + sums[0]
                    s0 = ((s >> 31) ^ -1) & s
                    s = words[4]
                    s = s - offset + sums[1]
                    s1 = ((s >> 31) ^ -1) & s
                    s = words[8]
                    s = s - offset + sums[2]
                    s2 = ((s >> 31) ^ -1) & s
                    s = words[12]
                    s = s - offset + sums[3]
                    s3 = ((s >> 31) ^ -1) & s
                    if not (s0 | s1 | s2 | s3) >> 19:
                        s = s0
                        y = (head[2] * s) >> 10
                        y = (head[3] * s + y) >> 10
                        s = head[4] * s + y + words[3]
                        s >>= head[5]
                        if s > high:
                            s = high
                        out[0] = s
                        s = s1
                        y = (head[10] * s) >> 10
                        y = (head[11] * s + y) >> 10
                        s = head[12] * s + y + words[7]
                        s >>= head[13]
                        if s > high:
                            s = high
                        out[1] = s
                        s = s2
                        y = (head[18] * s) >> 10
                        y = (head[19] * s + y) >> 10
                        s = head[20] * s + y + words[11]
                        s >>= head[21]
                        if s > high:
                            s = high
                        out[2] = s
                        s = s3
                        y = (head[26] * s) >> 10
                        y = (head[27] * s + y) >> 10
                        s = head[28] * s + y + words[15]
                        s >>= head[29]
                        if s > high:
                            s = high
                        out[3] = s
                        out = ptr8(uint(out) + 4)
                        sums = ptr32(uint(sums) + 16)
                        head = ptr16(uint(head) + 64)
                        n -= 4
                        few = 0
                n -= few
                while few:
                    words = ptr32(head)
                    s = words[0]
                    s = s - offset + sums[0]
                    if not signed:
                        s = ((s >> 31) ^ -1) & s
                    if (s + _TOP) >> 20:
                        shift = head[5] - _WIDE
                        if shift >= 0:
                            s -= _BIAS
                            bias_low = head[6]
                            bias_high = head[7]
                            m_low = head[2]
                            m_high = head[3]
                            s = int(wide(s, bias_high, bias_low, m_high, m_low, shift, p[24])) + p[19]
                            if s < low:
                                s = low
                            if s > high:
                                s = high
                            out[0] = s
                            out = ptr8(uint(out) + 1)
                            sums = ptr32(uint(sums) + 4)
                            head = ptr16(uint(head) + 16)
                            few -= 1
                            continue
                        s = ((s >> 31) | 1) * _TOP
                    y = (head[2] * s) >> 10
                    y = (head[3] * s + y) >> 10
                    y = head[4] * s + y
                    if signed:
                        y -= (s >> 31) & away
                        s = (words[3] + y) >> head[5]
                        if s < low:
                            s = low
                    else:
                        s = (words[3] + y) >> head[5]
                    if s > high:
                        s = high
                    out[0] = s
                    out = ptr8(uint(out) + 1)
                    sums = ptr32(uint(sums) + 4)
                    head = ptr16(uint(head) + 16)
                    few -= 1
            sums = ptr32(uint(sums) + unused)
        out = ptr8(uint(out) + gap)
        positions -= 1
