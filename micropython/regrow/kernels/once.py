"""Layers with one position whose tiles come before all heads: their sums are finished at one time."""

import micropython

from .layer import finish


@micropython.native
def finish_all(p, arena, work, file):
    """Make the outputs of the sums that stand behind the tile, with heads read into its place."""
    left = p[7]
    sums = p[28]
    out = p[1]
    count = p[27] >> 4
    while left:
        if count > left:
            count = left
        file.readinto(work, count << 4)
        finish(0, work, work, arena, p, sums, out, 1, count, count)
        sums += count << 2
        out += count
        left -= count
    return p[29]
