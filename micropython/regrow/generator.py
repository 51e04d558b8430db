"""The 16-bit counter generator of pack-format.md: the same numbers on every device."""

from array import array

import micropython


@micropython.viper
def fill(out: ptr16, count: int, seed_high: int, seed_low: int, i: int):
    """Write grow(seed, i) .. grow(seed, i + count - 1) as u16; i + count must stay below 2**31."""
    for n in range(count):
        left = ((i + n) >> 16) ^ seed_high
        right = ((i + n) & 0xFFFF) ^ seed_low
        left ^= (((right ^ 0x9E37) * 0x2C1B) >> 7) & 0xFFFF
        right ^= (((left ^ 0x79B9) * 0x3A53) >> 7) & 0xFFFF
        left ^= (((right ^ 0x7F4A) * 0x1F35) >> 7) & 0xFFFF
        right ^= (((left ^ 0x7C15) * 0x2E47) >> 7) & 0xFFFF
        out[n] = right


_one = array("H", [0])


def grow(seed, i):
    """The 16-bit number i (below 2**31) of the sequence of `seed` (32 bits)."""
    fill(_one, 1, seed >> 16, seed & 0xFFFF, i)
    return _one[0]
