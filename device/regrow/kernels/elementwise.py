"""Operators on two tensors, element by element, as TFLite's reference_integer_ops compute them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from regrow.errors import PackError
from regrow.kernels.base import Array, Kernel, Open, need_activation, need_form, need_shape, values
from regrow.quant import activation_range, clamp, quantize_multiplier, requantize

if TYPE_CHECKING:
    from regrow.graph import Node, Tensor

HEADROOM = 20
"""Bits by which ADD shifts its inputs up before it scales them."""


def _check_add(node: Node) -> None:
    need_form(node, (2,), 1)
    a, b, output = values(node.inputs[0]), values(node.inputs[1]), values(node.outputs[0])
    need_activation(node.options[0])
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise PackError(f"adds the shapes {a.shape} and {b.shape}, which do not fit") from None
    need_shape(output, shape)


def _run_add(node: Node, inputs: Sequence[Array | None], _: Open) -> list[Array]:
    """Both inputs in units of twice the larger scale / 2^20, their sum in units of the output."""
    output = node.outputs[0]
    operands = [values(tensor) for tensor in node.inputs]
    twice = 2.0 * max(tensor.scale for tensor in operands)
    total: Array = np.zeros(1, np.int64)
    for tensor, array in zip(operands, inputs, strict=True):
        assert array is not None
        shifted = (
            _aligned(tensor, array, len(output.shape)).astype(np.int64) - tensor.zero_point
        ) << HEADROOM
        total = total + requantize(shifted, *quantize_multiplier(tensor.scale / twice))
    total = requantize(total, *quantize_multiplier(twice / ((1 << HEADROOM) * output.scale)))
    total += output.zero_point
    bounds = activation_range(node.options[0], output.scale, output.zero_point, output.dtype)
    return [clamp(total, bounds, output.dtype)]


def _aligned(tensor: Tensor, array: Array, rank: int) -> Array:
    """The array with axes of 1 after the samples, so that its own axes stand last of `rank`."""
    return array.reshape(len(array), *(1,) * (rank - len(tensor.shape)), *tensor.shape)


ADD = Kernel("ADD", _check_add, _run_add)
