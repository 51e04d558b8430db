"""ARG_MAX."""

import micropython


def run(p, arena, work, file):
    argmax(arena, p)


@micropython.viper
def argmax(arena: ptr8, p: ptr32):
    """The first of the largest values, as integers of p[5] bytes."""
    x = ptr8(uint(arena) + p[0])
    out = ptr8(uint(arena) + p[1])
    inner = p[4]
    left = p[2]
    while left:
        j = inner
        while j:
            top = -1
            place = 0
            a = x
            i = 0
            while i < p[3]:
                if a[0] > top:
                    top = a[0]
                    place = i
                a = ptr8(uint(a) + inner)
                i += 1
            i = p[5]
            while i:
                out[0] = place
                place >>= 8
                out = ptr8(uint(out) + 1)
                i -= 1
            x = ptr8(uint(x) + 1)
            j -= 1
        x = ptr8(uint(x) + (p[3] - 1) * inner)
        left -= 1
