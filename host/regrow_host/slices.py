"""What STRIDED_SLICE takes of each axis, its masks resolved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Slice:
    begin: int
    stride: int
    count: int


WHOLE = slice(None)


def resolve(
    shape: Sequence[int], begins: Sequence[int], ends: Sequence[int], strides: Sequence[int], options: Any
) -> list[Slice]:
    """One slice per axis of the input. Raises ValueError with what is wrong.

    `options` has TensorFlow's masks, bit i for entry i of the lists: beginMask and endMask open a side,
    shrinkAxisMask takes one value, newAxisMask inserts an axis, ellipsisMask stands for all axes that
    the other entries leave.
    """
    if not len(begins) == len(ends) == len(strides):
        raise ValueError("has begins, ends and strides of different counts")
    if 0 in strides:
        raise ValueError("has a stride of 0")
    if options.offset:
        raise ValueError("has ends that count from its begins")
    entries: list[slice | int] = []
    ellipsis = None
    for i, (begin, end, stride) in enumerate(zip(begins, ends, strides, strict=True)):
        bit = 1 << i
        if options.ellipsisMask & bit:
            ellipsis = len(entries)
        elif options.newAxisMask & bit:
            continue
        elif options.shrinkAxisMask & bit:
            entries.append(begin)
        else:
            opens, closes = options.beginMask & bit, options.endMask & bit
            entries.append(slice(None if opens else begin, None if closes else end, stride))
    left = len(shape) - len(entries)
    if left < 0:
        raise ValueError(f"slices {len(entries)} axes of a tensor of {len(shape)}")
    at = len(entries) if ellipsis is None else ellipsis
    whole = [*entries[:at], *[WHOLE] * left, *entries[at:]]
    return [_resolve(entry, size) for entry, size in zip(whole, shape, strict=True)]


def _resolve(entry: slice | int, size: int) -> Slice:
    if isinstance(entry, int):
        if not -size <= entry < size:
            raise ValueError(f"takes value {entry} of an axis of {size}")
        return Slice(entry % size, 1, 1)
    begin, end, stride = entry.indices(size)
    count = len(range(begin, end, stride))
    if count == 0:
        raise ValueError("gives nothing")
    return Slice(begin, 1 if count == 1 else stride, count)
