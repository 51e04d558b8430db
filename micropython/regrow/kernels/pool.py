"""AVERAGE_POOL_2D and MAX_POOL_2D."""

import micropython


def run(p, arena, work, file):
    pool(0, arena, arena, p)


@micropython.viper
def pool(s: int, a: ptr8, arena: ptr8, p: ptr32):  # noqa: PLR0912, PLR0915 (as conv)
    """Mean, halves away from zero or upward, or maximum of the taps inside the image. s and a as in conv."""
    x = ptr8(uint(arena) + p[0])
    out = ptr8(uint(arena) + p[1])
    depth = p[4]
    low = p[13]
    high = p[14]
    maximum = p[15]
    upward = p[16]
    row_bytes = p[3] * depth
    oy = 0
    while oy < p[5]:
        y0 = oy * p[9] - p[11]
        taps_h = p[7]
        if y0 + taps_h > p[2]:
            taps_h = p[2] - y0
        if y0 < 0:
            taps_h += y0
            y0 = 0
        ox = 0
        while ox < p[6]:
            x0 = ox * p[10] - p[12]
            taps_w = p[8]
            if x0 + taps_w > p[3]:
                taps_w = p[3] - x0
            if x0 < 0:
                taps_w += x0
                x0 = 0
            taps = taps_h * taps_w
            half = taps >> 1
            c = 0
            while c < depth:
                row = ptr8(uint(x) + (y0 * row_bytes + x0 * depth + c))
                s = 0
                i = taps_h
                while i:
                    a = row
                    j = taps_w
                    if maximum:
                        while j:
                            if s < a[0]:
                                s = a[0]
                            a = ptr8(uint(a) + depth)
                            j -= 1
                    else:
                        while j:
                            s = a[0] + s
                            a = ptr8(uint(a) + depth)
                            j -= 1
                    row = ptr8(uint(row) + row_bytes)
                    i -= 1
                if not maximum:
                    s -= taps << 7
                    if s > 0:
                        s = (s + half) // taps + 128
                    elif upward:
                        s = 128 - (taps - half - 1 - s) // taps
                    else:
                        s = 128 - (half - s) // taps
                if s < low:
                    s = low
                if s > high:
                    s = high
                out[0] = s
                out = ptr8(uint(out) + 1)
                c += 1
            ox += 1
        oy += 1
