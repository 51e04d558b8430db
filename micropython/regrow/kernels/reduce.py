"""MEAN and SUM over some axes."""

import micropython
from micropython import const

from .wide import wide

_BIAS = const(0x20000000)
_SUMMED = const(7)
_KEPT = const(16)
_END = const(25)


def run(p, arena, work, file):
    reduce(arena, p)


@micropython.viper
def reduce(arena: ptr8, p: ptr32):
    """An output whenever the axes that are summed have come to their end."""
    x = ptr8(uint(arena) + p[0])
    out = ptr8(uint(arena) + p[1])
    step = p[_SUMMED + 2] - _BIAS
    s = 0 - p[2]
    k = 0
    while k < _END:
        i = p[_SUMMED + 1]
        while i:
            s = x[0] + s
            x = ptr8(uint(x) + step)
            i -= 1
        k = _SUMMED + 3
        while k < _END:
            if k == _KEPT:
                y = int(wide(s, 0x8000, 0, p[4], p[5], p[6], 0)) + p[3]
                if y < 0:
                    y = 0
                if y > 255:
                    y = 255
                out[0] = y
                out = ptr8(uint(out) + 1)
                s = 0 - p[2]
            x = ptr8(uint(x) + (p[k + 2] - _BIAS))
            p[k] = p[k] - 1
            if p[k]:
                break
            p[k] = p[k + 1]
            k += 3
