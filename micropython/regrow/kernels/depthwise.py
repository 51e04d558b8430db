"""DEPTHWISE_CONV_2D: over a window of padded image rows, so that input and output may share their place."""

import micropython
from micropython import const

from .wide import wide

_WIDE = const(32)
_BIAS = const(0x20000000)


def run(p, arena, work, file):
    """A tile, the rows of some channels, is used for all positions as it passes."""
    tile = p[24]
    left = p[4]
    while left:
        if tile > left:
            tile = left
        file.readinto(work, tile * p[22] * p[25])
        depthwise(0, arena, arena, work, p, p[4] - left, tile)
        left -= tile


@micropython.viper
def depthwise(  # noqa: PLR0912, PLR0915 (a call per part would cost more than its work)
    s: int, a: ptr8, arena: ptr8, tile: ptr8, p: ptr32, first: int, count: int
):
    """The channels made of the `count` input channels from `first` on; the window is behind the tile.

    The window moves down the image in a stretch of more rows, where there is room, and the rows that it keeps
    move to the front when it comes to the end. s and a as in conv.
    """
    height = p[2]
    width = p[3]
    depth = p[4]
    channels = p[7]
    taps_h = p[8]
    taps_w = p[9]
    stride_h = p[10]
    zero = p[16]
    low = p[17]
    high = p[18]
    out_zero = p[19]
    multiplier = p[22]
    weight_zero = p[23]
    pad = p[25] - 16 - taps_h * taps_w
    skip = 1
    if low != out_zero:
        skip = -0x20000000
    x = ptr8(uint(arena) + (p[0] + first))
    out = ptr8(uint(arena) + (p[1] + first * multiplier))
    window = ptr8(uint(tile) + p[26])
    row_bytes = p[21] * count
    rows = (taps_h - 1) * p[12] + 1
    left = p[15] * count
    used = p[21] - p[15]
    if used > width:
        used = width
    step = p[13] * count
    next_row = p[12] * row_bytes - taps_w * step
    gap = depth - count
    i = p[20] * row_bytes
    target = window
    while i:
        target[0] = zero
        target = ptr8(uint(target) + 1)
        i -= 1
    top = 0
    kept = 0
    iy = 0 - p[14]
    oy = 0
    while oy < p[5]:
        if top + rows > p[20]:
            target = window
            a = ptr8(uint(window) + top * row_bytes)
            i = kept * row_bytes
            while i:
                target[0] = a[0]
                target = ptr8(uint(target) + 1)
                a = ptr8(uint(a) + 1)
                i -= 1
            top = 0
        row = top + kept
        while row < top + rows:
            target = ptr8(uint(window) + (row * row_bytes + left))
            j = used
            if iy < 0:
                j = 0
            if iy >= height:
                i = j * count
                while i:
                    target[0] = zero
                    target = ptr8(uint(target) + 1)
                    i -= 1
                j = 0
            a = ptr8(uint(x) + iy * width * depth)
            if gap == 0:
                i = j * count
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
                j = 0
            while j:
                i = count
                while i:
                    target[0] = a[0]
                    target = ptr8(uint(target) + 1)
                    a = ptr8(uint(a) + 1)
                    i -= 1
                a = ptr8(uint(a) + gap)
                j -= 1
            iy += 1
            row += 1
        ox = 0
        while ox < p[6]:
            start = ptr8(uint(window) + (top * row_bytes + ox * p[11] * count))
            w = tile
            c = 0
            again = multiplier
            while c < count * multiplier:
                t = ptr32(w)
                w = ptr8(uint(w) + 16)
                a = start
                s = t[0] - _BIAS
                ky = taps_h
                while ky:
                    if taps_w == 3:
                        s = (w[0] - weight_zero) * a[0] + s
                        a = ptr8(uint(a) + step)
                        s = (w[1] - weight_zero) * a[0] + s
                        a = ptr8(uint(a) + step)
                        s = (w[2] - weight_zero) * a[0] + s
                        a = ptr8(uint(a) + step)
                        w = ptr8(uint(w) + 3)
                    else:
                        i = taps_w
                        while i:
                            s = (w[0] - weight_zero) * a[0] + s
                            a = ptr8(uint(a) + step)
                            w = ptr8(uint(w) + 1)
                            i -= 1
                    a = ptr8(uint(a) + next_row)
                    ky -= 1
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
                            + 0x4000
                        ) >> 15
                        y += high_bits * m_high
                        if right:
                            y = (y + (1 << (right - 1)) + (y >> 31)) >> right
                        y += out_zero
                else:
                    y = t[3]
                    m_high = t[1] >> 16
                    m_low = t[1] & 0xFFFF
                    y = int(wide(s, (y >> 16) & 0xFFFF, y & 0xFFFF, m_high, m_low, right - _WIDE, 0))
                    y += out_zero
                if y < low:
                    y = low
                if y > high:
                    y = high
                out[c] = y
                c += 1
                again -= 1
                if again == 0:
                    again = multiplier
                    start = ptr8(uint(start) + 1)
            out = ptr8(uint(out) + channels)
            ox += 1
        kept = rows - stride_h
        top += stride_h
        if kept < 0:
            iy += 0 - kept
            kept = 0
            top = p[20]
        oy += 1
