"""RESHAPE: the same values in the same order."""

import micropython


def run(p, arena, work, file):
    if p[0] != p[1]:
        move(arena, p[0], p[1], p[2])


@micropython.viper
def move(arena: ptr8, source: int, target: int, count: int):
    while count:
        arena[target] = arena[source]
        source += 1
        target += 1
        count -= 1
