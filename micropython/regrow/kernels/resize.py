"""RESIZE_NEAREST_NEIGHBOR."""

import micropython


def run(p, arena, work, file):
    file.readinto(work, p[5])
    resize(arena, work, p)


@micropython.viper
def resize(arena: ptr8, places: ptr32, p: ptr32):
    """`places`: of each output row in the input, then of each column."""
    out = ptr8(uint(arena) + p[1])
    columns = ptr32(uint(places) + 4 * p[2])
    y = 0
    while y < p[2]:
        x = 0
        while x < p[3]:
            a = ptr8(uint(arena) + (p[0] + places[y] + columns[x]))
            i = p[4]
            while i:
                out[0] = a[0]
                a = ptr8(uint(a) + 1)
                out = ptr8(uint(out) + 1)
                i -= 1
            x += 1
        y += 1
