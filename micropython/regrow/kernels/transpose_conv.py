"""TRANSPOSE_CONV: each output gathers the values of the input whose windows it lies in."""

import micropython
from micropython import const

from .wide import wide

_WIDE = const(32)
_BIAS = const(0x20000000)


def run(p, arena, work, file):
    """A tile, the rows of some output channels, is used for all positions as it passes."""
    tile, size = p[19], p[20]
    left = p[7]
    while left:
        if tile > left:
            tile = left
        file.readinto(work, tile * size)
        transpose_conv(0, arena, arena, work, p, p[7] - left, tile)
        left -= tile


@micropython.viper
def transpose_conv(  # noqa: PLR0915 (as layer.finish)
    s: int, a: ptr8, arena: ptr8, tile: ptr8, p: ptr32, first: int, count: int
):
    """Outputs of the `count` channels from `first` on, at every position. s and a as in conv."""
    width = p[3]
    depth = p[4]
    taps_h = p[8]
    taps_w = p[9]
    stride_h = p[10]
    stride_w = p[11]
    zero = p[14]
    weight_zero = p[18]
    out = ptr8(uint(arena) + (p[1] + first))
    oy = p[12]
    while oy < p[5] + p[12]:
        ox = p[13]
        while ox < p[6] + p[13]:
            row = tile
            c = 0
            while c < count:
                t = ptr32(row)
                s = t[0] - _BIAS - _BIAS - _BIAS
                ky = oy % stride_h
                iy = oy // stride_h
                while ky < taps_h:
                    kx = ox % stride_w
                    ix = ox // stride_w
                    if iy < 0 or iy >= p[2]:
                        kx = taps_w
                    while kx < taps_w:
                        if ix >= 0 and ix < width:
                            a = ptr8(uint(arena) + (p[0] + (iy * width + ix) * depth))
                            w = ptr8(uint(row) + (16 + (ky * taps_w + kx) * depth))
                            i = depth
                            while i > 3:
                                s = (w[0] - weight_zero) * (a[0] - zero) + s
                                s = (w[1] - weight_zero) * (a[1] - zero) + s
                                s = (w[2] - weight_zero) * (a[2] - zero) + s
                                s = (w[3] - weight_zero) * (a[3] - zero) + s
                                a = ptr8(uint(a) + 4)
                                w = ptr8(uint(w) + 4)
                                i -= 4
                            while i:
                                s = (w[0] - weight_zero) * (a[0] - zero) + s
                                a = ptr8(uint(a) + 1)
                                w = ptr8(uint(w) + 1)
                                i -= 1
                        kx += stride_w
                        ix -= 1
                    ky += stride_h
                    iy -= 1
                h = ptr16(row)
                m_low = h[2]
                m_high = h[3]
                shift = h[5] - _WIDE
                bias_low = h[6]
                bias_high = h[7]
                y = int(wide(s, bias_high, bias_low, m_high, m_low, shift, 0))
                y += p[17]
                if y < p[15]:
                    y = p[15]
                if y > p[16]:
                    y = p[16]
                out[c] = y
                row = ptr8(uint(row) + p[20])
                c += 1
            out = ptr8(uint(out) + p[7])
            ox += 1
        oy += 1
