"""LOOKUP: any function of one value of 8 bits."""

import micropython


def run(p, arena, work, file):
    file.readinto(work, 256)
    lookup(arena, arena, p[0], p[1], p[2], work)


@micropython.viper
def lookup(x: ptr8, out: ptr8, source: int, target: int, count: int, table: ptr8):
    """The output may stand in the place of the input."""
    x = ptr8(uint(x) + source)
    out = ptr8(uint(out) + target)
    while count > 3:
        out[0] = table[x[0]]
        out[1] = table[x[1]]
        out[2] = table[x[2]]
        out[3] = table[x[3]]
        x = ptr8(uint(x) + 4)
        out = ptr8(uint(out) + 4)
        count -= 4
    while count:
        out[0] = table[x[0]]
        x = ptr8(uint(x) + 1)
        out = ptr8(uint(out) + 1)
        count -= 1
