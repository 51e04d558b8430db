"""ADD, SUB and MUL: two tensors, element by element, as TFLite's reference_integer_ops compute them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from regrow.errors import PackError
from regrow.kernels.base import Array, Kernel, Open, need_activation, need_form, need_shape, values
from regrow.quant import activation_range, clamp, quantize_multiplier, requantize

if TYPE_CHECKING:
    from regrow.graph import Node, Tensor

HEADROOM = 20
"""Bits by which ADD and SUB shift their inputs up before they scale them."""


def _check(node: Node) -> None:
    need_form(node, (2,), 1)
    a, b, output = values(node.inputs[0]), values(node.inputs[1]), values(node.outputs[0])
    need_activation(node.options[0])
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise PackError(f"takes the shapes {a.shape} and {b.shape}, which do not fit") from None
    need_shape(output, shape)


def _run_sum(node: Node, inputs: Sequence[Array | None], _: Open, sign: int) -> list[Array]:
    """Both inputs in units of twice the larger scale / 2^20; a + sign * b in units of the output."""
    operands, output = [values(tensor) for tensor in node.inputs], node.outputs[0]
    twice = 2.0 * max(tensor.scale for tensor in operands)
    a, b = (
        requantize(levels << HEADROOM, *quantize_multiplier(tensor.scale / twice))
        for tensor, levels in zip(operands, _levels(node, inputs), strict=True)
    )
    total = requantize(a + sign * b, *quantize_multiplier(twice / ((1 << HEADROOM) * output.scale)))
    return [_finish(node, total)]


def _run_mul(node: Node, inputs: Sequence[Array | None], _: Open) -> list[Array]:
    a, b = _levels(node, inputs)
    return [_finish(node, requantize(a * b, *quantize_multiplier(_mul_scale(node))))]


def _mul_scale(node: Node) -> float:
    """Product of the input scales over the output's, rounded to float32 at each step as TFLite does."""
    a, b, output = (np.float32(values(tensor).scale) for tensor in (*node.inputs, node.outputs[0]))
    return float(a * b / output)


def _levels(node: Node, inputs: Sequence[Array | None]) -> list[Array]:
    """int64, zero points taken off, their axes aligned with the output's."""
    rank = len(node.outputs[0].shape)
    return [
        _aligned(values(tensor), array, rank).astype(np.int64) - values(tensor).zero_point
        for tensor, array in zip(node.inputs, inputs, strict=True)
        if array is not None
    ]


def _aligned(tensor: Tensor, array: Array, rank: int) -> Array:
    """The array with axes of 1 after the samples, so that its own axes stand last of `rank`."""
    return array.reshape(len(array), *(1,) * (rank - len(tensor.shape)), *tensor.shape)


def _finish(node: Node, total: Array) -> Array:
    output = node.outputs[0]
    total += output.zero_point
    bounds = activation_range(node.options[0], output.scale, output.zero_point, output.dtype)
    return clamp(total, bounds, output.dtype)


ADD = Kernel("ADD", _check, partial(_run_sum, sign=1))
SUB = Kernel("SUB", _check, partial(_run_sum, sign=-1))
MUL = Kernel("MUL", _check, _run_mul)
