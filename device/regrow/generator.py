"""The generator of pseudo-random numbers from which uniform weights and probe inputs grow."""

from typing import Any

import numpy as np
import numpy.typing as npt

_ROUNDS = ((0x9E37, 0x2C1B), (0x79B9, 0x3A53), (0x7F4A, 0x1F35), (0x7C15, 0x2E47))


def grow(seed: int, i: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint16]:
    """16 bits for each counter of `i` (0 to 2^31 - 1, any shape) and the 32-bit `seed`.

    A four-round Feistel network (docs/pack-format.md), every intermediate below 2^31.
    """
    counter = i.astype(np.int32)
    left = (counter >> 16) ^ (seed >> 16)
    right = (counter & 0xFFFF) ^ (seed & 0xFFFF)
    for mask, factor in _ROUNDS:
        mixed = right ^ mask
        mixed *= factor
        mixed >>= 7
        mixed &= 0xFFFF
        left ^= mixed
        left, right = right, left
    return right.astype(np.uint16)
