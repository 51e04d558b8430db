"""Write lists of integers as Rice codes (docs/pack-format.md, "Integers")."""

import functools
import operator
from collections.abc import Sequence

from regrow.rice import ESCAPE, MOST_K, RAW_BITS

LARGEST = (1 << RAW_BITS - 1) - 1


def shifted(values: Sequence[int], most: int = 31) -> tuple[int, list[int]]:
    """How many low bits are 0 in all values, and these without them."""
    bits = functools.reduce(operator.or_, values, 0)
    shift = min(zeros(bits), most) if bits else 0
    return shift, [value >> shift for value in values]


def zeros(value: int) -> int:
    """How many low bits of a value other than 0 are 0."""
    return (value & -value).bit_length() - 1


def write(values: Sequence[int]) -> bytes:
    """The codes of values from -LARGEST - 1 to LARGEST, with the parameter that makes them shortest."""
    plain = [value << 1 if value >= 0 else ~value << 1 | 1 for value in values]
    k = min(range(MOST_K + 1), key=lambda each: sum(_length(value, each) for value in plain))
    bits = length = 0
    for value in plain:
        high = value >> k
        if high < ESCAPE:
            code, size = (1 << high) - 1 | (value & (1 << k) - 1) << high + 1, high + 1 + k
        else:
            code, size = (1 << ESCAPE) - 1 | value << ESCAPE, ESCAPE + RAW_BITS
        bits |= code << length
        length += size
    return bytes([k]) + bits.to_bytes(-(-length // 8), "little")


def _length(value: int, k: int) -> int:
    high = value >> k
    return high + 1 + k if high < ESCAPE else ESCAPE + RAW_BITS
