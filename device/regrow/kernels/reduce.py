"""MEAN and SUM over some axes, as TFLite's reference kernels compute them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from regrow.kernels.base import Array, Kernel, Open, need, values
from regrow.quant import clamp, quantize_multiplier, requantize

if TYPE_CHECKING:
    from regrow.graph import Node


def _axes(node: Node) -> tuple[int, ...]:
    return tuple(node.options[1:])


def _check(node: Node) -> None:
    need(len(node.inputs) == len(node.outputs) == 1, "does not have one input and one output")
    need(len(node.options) == 1 + sum(node.options[:1]), "has another count of axes than it says")
    x, output, axes = values(node.inputs[0]), values(node.outputs[0]), _axes(node)
    fits = list(axes) == sorted(set(axes)) and all(axis < len(x.shape) for axis in axes)
    need(fits, f"has the axes {list(axes)} for an input of shape {x.shape}")
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    dropped = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
    need(output.shape in (kept, dropped), f"gives shape {output.shape} for an input of shape {x.shape}")


def _run(node: Node, inputs: Sequence[Array | None], _: Open, mean: bool) -> list[Array]:
    x, output, axes = values(node.inputs[0]), node.outputs[0], _axes(node)
    count = math.prod(x.shape[axis] for axis in axes)
    multiplier, shift = map(int, quantize_multiplier(x.scale / output.scale))
    if mean:
        multiplier, shift = _divided(multiplier, shift, count)
    assert inputs[0] is not None
    sums = inputs[0].sum(tuple(axis + 1 for axis in axes), dtype=np.int64) - x.zero_point * count
    total = requantize(sums, multiplier, shift) + output.zero_point
    bounds = int(np.iinfo(output.dtype).min), int(np.iinfo(output.dtype).max)
    return [clamp(total, bounds, output.dtype).reshape(-1, *output.shape)]


def _divided(multiplier: int, shift: int, count: int) -> tuple[int, int]:
    """The multiplier over the count, kept at its precision by the largest power of 2 within the count."""
    bits = min(count.bit_length() - 1, 32, 31 + shift)
    return (multiplier << bits) // count, shift - bits


MEAN = Kernel("MEAN", _check, partial(_run, mean=True))
SUM = Kernel("SUM", _check, partial(_run, mean=False))
