"""Weights that are mostly zero, in a layer with one position whose inputs often are, too: input by input, the
others add to the sums of their channels, and those of an input of 0 are left out.

All tiles come before the heads of the channels, so that their sums are finished at one time.
"""

import micropython
from micropython import const

from .once import finish_all

_BIAS = const(0x20000000)


@micropython.native
def run(p, arena, work, file):
    start(work, p)
    size = p[27]
    left = p[26]
    while left:
        file.readinto(work, size)
        accumulate(work, work, arena, p)
        left -= 1
    return finish_all(p, arena, work, file)


@micropython.viper
def start(work: ptr8, p: ptr32):
    """Sums of _BIAS, behind that of the inputs, which is 0 as the heads have it."""
    sums = ptr32(uint(work) + p[28])
    sums[0] = 0
    n = p[7]
    while n:
        sums = ptr32(uint(sums) + 4)
        sums[0] = _BIAS
        n -= 1


@micropython.viper
def accumulate(t: ptr32, w: ptr8, arena: ptr8, p: ptr32):
    """Add what the tile's inputs make. t and w come first because viper keeps two variables in registers."""
    sums = ptr32(uint(w) + p[28])
    a = ptr8(uint(arena) + (p[0] + p[22]))
    inputs = w[0] + (w[1] << 8)
    p[22] = p[22] + inputs
    skipped = p[29]
    w = ptr8(uint(w) + 2)
    while inputs:
        x = a[0]
        a = ptr8(uint(a) + 1)
        if x:
            w = ptr8(uint(w) + 2)
            t = sums
            while w[0]:
                t = ptr32(uint(t) + w[1])
                t[0] = (w[0] - 128) * x + t[0]
                t = ptr32(uint(t) + w[3])
                t[0] = (w[2] - 128) * x + t[0]
                t = ptr32(uint(t) + w[5])
                t[0] = (w[4] - 128) * x + t[0]
                t = ptr32(uint(t) + w[7])
                t[0] = (w[6] - 128) * x + t[0]
                t = ptr32(uint(t) + w[9])
                t[0] = (w[8] - 128) * x + t[0]
                t = ptr32(uint(t) + w[11])
                t[0] = (w[10] - 128) * x + t[0]
                t = ptr32(uint(t) + w[13])
                t[0] = (w[12] - 128) * x + t[0]
                t = ptr32(uint(t) + w[15])
                t[0] = (w[14] - 128) * x + t[0]
                w = ptr8(uint(w) + 16)
            w = ptr8(uint(w) + 1)
        else:
            n = w[0]
            skipped += (n << 3) - w[1]
            w = ptr8(uint(w) + ((n << 4) + 3))
        inputs -= 1
    p[29] = skipped
