"""CONCATENATION, PAD, TRANSPOSE and STRIDED_SLICE: copies along axes."""

import micropython
from micropython import const

from ..executor import fill

_BIAS = const(0x20000000)
_END = const(28)


def run(p, arena, work, file):
    fill(arena, p[1], p[2], p[3])
    size = p[0]
    while size:
        file.readinto(work, size)
        size = copy(arena, work)


@micropython.viper
def copy(arena: ptr8, p: ptr32) -> int:
    """Copy as p describes; gives the bytes of the next description."""
    s = ptr8(uint(arena) + p[2])
    if p[1]:
        s = ptr8(uint(p) + p[2])
    t = ptr8(uint(arena) + p[3])
    s_step = p[6] - _BIAS
    t_step = p[7] - _BIAS
    k = 0
    while k < _END:
        i = p[5]
        if s_step == 1 and t_step == 1:
            while i > 3:
                t[0] = s[0]
                t[1] = s[1]
                t[2] = s[2]
                t[3] = s[3]
                s = ptr8(uint(s) + 4)
                t = ptr8(uint(t) + 4)
                i -= 4
        while i:
            t[0] = s[0]
            s = ptr8(uint(s) + s_step)
            t = ptr8(uint(t) + t_step)
            i -= 1
        k = 8
        while k < _END:
            s = ptr8(uint(s) + (p[k + 2] - _BIAS))
            t = ptr8(uint(t) + (p[k + 3] - _BIAS))
            p[k] = p[k] - 1
            if p[k]:
                break
            p[k] = p[k + 1]
            k += 4
    return p[0]
