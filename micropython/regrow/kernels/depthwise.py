"""DEPTHWISE_CONV_2D: channel by channel, over a window of padded image rows."""

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
        tile = min(tile, left)
        file.readinto(work, tile * p[22] * p[25])
        depthwise(0, arena, arena, work, p, p[4] - left, tile)
        left -= tile


@micropython.viper
def depthwise(  # noqa: PLR0912, PLR0915 (a call per part would cost more than its work)
    s: int, a: ptr8, arena: ptr8, tile: ptr8, p: ptr32, first: int, count: int
):
    """The channels made of the `count` input channels from `first` on; the window is behind the tile.

    The window holds as many rows of the image as there is room for and moves down it; the rows that the next
    outputs need as well move to its front. It holds one channel at a time, so that the output may stand in
    the place of an input of its shape, or all of the tile's, so that outputs may run into the input behind
    the rows that are copied. s and a come first because viper keeps two variables in registers.
    """
    height = p[2]
    width = p[3]
    depth = p[4]
    channels = p[7]
    taps_h = p[8]
    taps_w = p[9]
    stride_h = p[10]
    stride_w = p[11]
    zero = p[16]
    low = p[17]
    high = p[18]
    columns = p[21]
    multiplier = p[22]
    weight_zero = p[23]
    size = p[25]
    plane = p[20] * columns
    signed = low - p[19]
    used = columns - p[15]
    if used > width:
        used = width
    line_bytes = width * depth
    unused_bytes = (width - used) * depth
    step = p[13]
    next_row = p[12] * columns - taps_w * step
    three = taps_w == 3 and taps_h == 3 and step == 1
    # of a row of taps: those that are done four at a time, and the others
    fours = 0
    singles = taps_w
    if step == 1:
        fours = taps_w >> 2
        singles = taps_w & 3
    down = p[12] * columns
    window = ptr8(uint(tile) + p[26])
    reach = (taps_h - 1) * p[12] + 1
    most = (p[20] - reach) // stride_h + 1
    group = 1
    if p[27]:
        group = count
    a = window
    i = group * plane
    while i:
        a[0] = zero
        a = ptr8(uint(a) + 1)
        i -= 1
    done = 0
    while done < count:
        kept = 0
        iy = 0 - p[14]
        oy = 0
        while oy < p[5]:
            now = p[5] - oy
            if now > most:
                now = most
            need = (now - 1) * stride_h + reach
            g = 0
            while g < group:
                target = ptr8(uint(window) + (g * plane + kept * columns + p[15]))
                row = iy + kept
                a = ptr8(uint(arena) + (p[0] + row * line_bytes + first + done + g))
                n = need - kept
                while n:
                    i = used
                    if row < 0 or row >= height:
                        while i:
                            target[0] = zero
                            target = ptr8(uint(target) + 1)
                            i -= 1
                        a = ptr8(uint(a) + line_bytes)
                    else:
                        while i > 3:
                            target[0] = a[0]
                            a = ptr8(uint(a) + depth)
                            target[1] = a[0]
                            a = ptr8(uint(a) + depth)
                            target[2] = a[0]
                            a = ptr8(uint(a) + depth)
                            target[3] = a[0]
                            a = ptr8(uint(a) + depth)
                            target = ptr8(uint(target) + 4)
                            i -= 4
                        while i:
                            target[0] = a[0]
                            a = ptr8(uint(a) + depth)
                            target = ptr8(uint(target) + 1)
                            i -= 1
                        a = ptr8(uint(a) + unused_bytes)
                    target = ptr8(uint(target) + (columns - used))
                    row += 1
                    n -= 1
                g += 1
            made = 0
            while made < group * multiplier:
                channel = done * multiplier + made
                w = ptr8(uint(tile) + channel * size)
                head = ptr32(w)
                halves = ptr16(w)
                bias = head[0] - _BIAS - _BIAS
                m_low = halves[2]
                m_middle = halves[3]
                m_high = halves[4]
                shift = halves[5]
                bits = 20
                left = shift - _WIDE
                if left >= 0:
                    # all sums are beyond the top
                    wide_low = m_low
                    wide_high = m_middle
                    m_low = 0
                    m_middle = 0
                    m_high = 0
                    shift = 17
                else:
                    half = head[3]
                away = 0x800
                small = shift < 17
                if small:
                    # sums beyond the top saturate, so that two digits do, of 15 bits and of 16
                    bits = shift - 1
                    if bits < 10:
                        bits = 10
                    m_low = (m_low | (m_middle << 10)) & 0x7FFF
                    m_high = (m_middle >> 5) | (m_high << 5)
                    half <<= 5
                    shift += 5
                    away = 0x10000
                top = 1 << (bits - 1)
                w = ptr8(uint(w) + 16)
                if three:
                    w0 = w[0] - weight_zero
                    w1 = w[1] - weight_zero
                    w2 = w[2] - weight_zero
                    w3 = w[3] - weight_zero
                    w4 = w[4] - weight_zero
                    w5 = w[5] - weight_zero
                    w6 = w[6] - weight_zero
                    w7 = w[7] - weight_zero
                    w8 = w[8] - weight_zero
                out = ptr8(uint(arena) + (p[1] + oy * p[6] * channels + first * multiplier + channel))
                line = ptr8(uint(window) + (made // multiplier) * plane)
                y = now
                while y:
                    start = line
                    x = p[6]
                    while x:
                        a = start
                        if three:
                            s = w0 * a[0] + bias
                            s = w1 * a[1] + s
                            s = w2 * a[2] + s
                            a = ptr8(uint(a) + down)
                            s = w3 * a[0] + s
                            s = w4 * a[1] + s
                            s = w5 * a[2] + s
                            a = ptr8(uint(a) + down)
                            s = w6 * a[0] + s
                            s = w7 * a[1] + s
                            s = w8 * a[2] + s
                        else:
                            s = bias
                            t = w
                            ky = taps_h
                            while ky:
                                i = fours
                                while i:
                                    s = (t[0] - weight_zero) * a[0] + s
                                    s = (t[1] - weight_zero) * a[1] + s
                                    s = (t[2] - weight_zero) * a[2] + s
                                    s = (t[3] - weight_zero) * a[3] + s
                                    a = ptr8(uint(a) + 4)
                                    t = ptr8(uint(t) + 4)
                                    i -= 1
                                i = singles
                                while i:
                                    s = (t[0] - weight_zero) * a[0] + s
                                    a = ptr8(uint(a) + step)
                                    t = ptr8(uint(t) + 1)
                                    i -= 1
                                a = ptr8(uint(a) + next_row)
                                ky -= 1
                        if not signed:
                            s = ((s >> 31) ^ -1) & s
                        if (s + top) >> bits:
                            if left >= 0:
                                s -= _BIAS
                                bias_low = halves[6]
                                bias_high = halves[7]
                                i = int(wide(s, bias_high, bias_low, wide_high, wide_low, left, 0)) + p[19]
                                if i < low:
                                    i = low
                                half = i << 17
                                s = 0
                            elif s < 0:
                                s = 0 - top
                            else:
                                s = top
                        if small:
                            i = (m_low * s) >> 15
                        else:
                            i = (m_low * s) >> 10
                            i = (m_middle * s + i) >> 10
                        i = m_high * s + i
                        if signed:
                            i -= (s >> 31) & away
                            s = (half + i) >> shift
                            if s < low:
                                s = low
                        else:
                            s = (half + i) >> shift
                        if s > high:
                            s = high
                        out[0] = s
                        out = ptr8(uint(out) + channels)
                        start = ptr8(uint(start) + stride_w)
                        x -= 1
                    line = ptr8(uint(line) + stride_h * columns)
                    y -= 1
                made += 1
            oy += now
            iy += now * stride_h
            kept = need - now * stride_h
            if kept < 0:
                kept = 0
            g = 0
            while g < group:
                target = ptr8(uint(window) + g * plane)
                a = ptr8(uint(target) + now * stride_h * columns)
                i = kept * columns
                while i:
                    target[0] = a[0]
                    target = ptr8(uint(target) + 1)
                    a = ptr8(uint(a) + 1)
                    i -= 1
                g += 1
        done += group
