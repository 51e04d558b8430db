"""CONV_2D and FULLY_CONNECTED: sums over columns, for a tile of output channels at a time."""

import micropython
from micropython import const

from .wide import wide

_WIDE = const(32)
_BIAS = const(0x20000000)


def run(p, arena, work, file):
    """A tile is used for all positions as it passes."""
    tile, size = p[26], p[27]
    left = p[7]
    while left:
        if tile > left:
            tile = left
        file.readinto(work, tile * size)
        conv(0, arena, arena, work, p, p[7] - left, tile)
        left -= tile


@micropython.viper
def conv(  # noqa: PLR0912, PLR0915 (a call per part would cost more than its work)
    s: int, a: ptr8, arena: ptr8, tile: ptr8, p: ptr32, first: int, count: int
):
    """Outputs of the `count` channels from `first` on, at every position.

    With inputs a and weights w as level + 128, zero points z and v: the sum of (a - z) * (w - v) is the sum
    of a * w, less v * the sum of a, less z * the sum of (w - v), which the row's bias has in it. A column
    stands behind the tile. s and a come first because viper keeps two variables in registers; callers give 0
    and the arena.
    """
    x = ptr8(uint(arena) + p[0])
    out = ptr8(uint(arena) + (p[1] + first))
    height = p[2]
    width = p[3]
    depth = p[4]
    channels = p[7]
    taps_h = p[8]
    taps_w = p[9]
    zero = p[16]
    low = p[17]
    high = p[18]
    out_zero = p[19]
    length = p[21]
    gather = p[22]
    aligned = p[23]
    # FULLY_CONNECTED rounds once, halves upward; the others round the product, and the shift away from zero
    nudge = 0x4000
    away = -1
    if p[24]:
        nudge = 0
        away = 0
    skip = 1
    if low != out_zero:
        skip = -0x20000000
    blocks = length >> 3
    rest = length & 7
    pad = p[27] - 16 - length
    column = ptr8(uint(tile) + p[28])
    # all taps of a window's row lie side by side, unless they are dilated
    span = taps_w
    if p[13] > 1:
        span = 1
    i = p[20]
    if gather:
        while i < length:
            column[i] = 0
            i += 1
    oy = 0
    while oy < p[5]:
        ox = 0
        while ox < p[6]:
            start = ptr8(uint(x) + (oy * p[10] * width + ox * p[11]) * depth)
            if gather:
                start = column
                a = column
                ky = 0
                iy = oy * p[10] - p[14]
                while ky < taps_h:
                    kx = 0
                    ix = ox * p[11] - p[15]
                    while kx < taps_w:
                        # taps before, inside and behind the image's row
                        before = 0
                        inside = span
                        if ix < 0:
                            before = 0 - ix
                            if before > span:
                                before = span
                            inside = span - before
                        if ix + span > width:
                            inside = width - ix - before
                            if inside < 0:
                                inside = 0
                        if iy < 0:
                            inside = 0
                            before = span
                        if iy >= height:
                            inside = 0
                            before = span
                        i = before * depth
                        while i:
                            a[0] = zero
                            a = ptr8(uint(a) + 1)
                            i -= 1
                        if inside:
                            i = inside * depth
                            source = ptr8(uint(x) + ((iy * width + ix + before) * depth))
                            if aligned:
                                halves = ptr16(a)
                                source_halves = ptr16(source)
                                a = ptr8(uint(a) + i)
                                while i:
                                    halves[0] = source_halves[0]
                                    halves[1] = source_halves[1]
                                    halves[2] = source_halves[2]
                                    halves[3] = source_halves[3]
                                    halves = ptr16(uint(halves) + 8)
                                    source_halves = ptr16(uint(source_halves) + 8)
                                    i -= 8
                            while i:
                                a[0] = source[0]
                                a = ptr8(uint(a) + 1)
                                source = ptr8(uint(source) + 1)
                                i -= 1
                        i = (span - before - inside) * depth
                        while i:
                            a[0] = zero
                            a = ptr8(uint(a) + 1)
                            i -= 1
                        kx += span
                        ix += p[13]
                    ky += 1
                    iy += p[12]
            a = start
            s = 0
            i = blocks
            while i:
                s = a[0] + s
                s = a[1] + s
                s = a[2] + s
                s = a[3] + s
                s = a[4] + s
                s = a[5] + s
                s = a[6] + s
                s = a[7] + s
                a = ptr8(uint(a) + 8)
                i -= 1
            i = rest
            while i:
                s = a[0] + s
                a = ptr8(uint(a) + 1)
                i -= 1
            offset = s * p[25] + _BIAS
            w = tile
            c = 0
            while c < count:
                t = ptr32(w)
                w = ptr8(uint(w) + 16)
                a = start
                s = t[0] - offset
                i = blocks
                while i:
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
                    i -= 1
                i = rest
                while i:
                    s = w[0] * a[0] + s
                    a = ptr8(uint(a) + 1)
                    w = ptr8(uint(w) + 1)
                    i -= 1
                w = ptr8(uint(w) + pad)
                right = t[2]
                if right < _WIDE:
                    if s < skip:
                        y = low
                    else:
                        high_bits = s >> 15
                        low_bits = s & 0x7FFF
                        m_high = t[1] >> 16
                        m_low = t[1] & 0xFFFF
                        y = (
                            ((((low_bits * m_low) >> 15) + high_bits * m_low) >> 1)
                            + low_bits * m_high
                            + nudge
                        ) >> 15
                        y += high_bits * m_high
                        if right:
                            y = (y + (1 << (right - 1)) + ((y >> 31) & away)) >> right
                        y += out_zero
                else:
                    y = t[3]
                    m_high = t[1] >> 16
                    m_low = t[1] & 0xFFFF
                    y = int(wide(s, (y >> 16) & 0xFFFF, y & 0xFFFF, m_high, m_low, right - _WIDE, p[24]))
                    y += out_zero
                if y < low:
                    y = low
                if y > high:
                    y = high
                out[c] = y
                c += 1
            out = ptr8(uint(out) + channels)
            ox += 1
        oy += 1
