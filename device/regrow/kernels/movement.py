"""Operators that move values and change none; RESHAPE is in shape.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from regrow.errors import PackError
from regrow.kernels.base import Array, Kernel, Open, need, need_form, need_shape, values

if TYPE_CHECKING:
    from regrow.graph import Node, Tensor


def _check_concatenation(node: Node) -> None:
    need(len(node.inputs) > 0, "has no inputs")
    need_form(node, (len(node.inputs),), 1)
    axis, output = node.options[0], values(node.outputs[0])
    shapes = [values(tensor).shape for tensor in node.inputs]
    need(axis < len(output.shape), f"has the axis {axis} for an output of shape {output.shape}")
    for tensor in node.inputs:
        _need_units(values(tensor), output)
        fits = len(values(tensor).shape) == len(output.shape)
        need(fits, f"puts shape {values(tensor).shape} into {output.shape}")
    whole = list(output.shape)
    whole[axis] = sum(shape[axis] for shape in shapes)
    need_shape(output, tuple(whole))
    for shape in shapes:
        need(
            all(size == output.shape[i] for i, size in enumerate(shape) if i != axis),
            f"puts shape {shape} into {output.shape}",
        )


def _run_concatenation(node: Node, inputs: Sequence[Array | None], _: Open) -> list[Array]:
    arrays = [array for array in inputs if array is not None]
    samples = max(map(len, arrays))
    spread = [np.broadcast_to(array, (samples, *array.shape[1:])) for array in arrays]
    return [np.concatenate(spread, node.options[0] + 1)]


def _paddings(node: Node) -> list[tuple[int, int]]:
    numbers = varints(node.options)
    return list(zip(numbers[::2], numbers[1::2], strict=False))


def _check_pad(node: Node) -> None:
    need_form(node, (1,), len(node.options))
    x, output = values(node.inputs[0]), values(node.outputs[0])
    _need_units(x, output)
    need(len(varints(node.options)) == 2 * len(x.shape), "does not have two paddings per axis")
    sizes = (size + sum(pads) for size, pads in zip(x.shape, _paddings(node), strict=True))
    need_shape(output, tuple(sizes))


def _run_pad(node: Node, inputs: Sequence[Array | None], _: Open) -> list[Array]:
    assert inputs[0] is not None
    return [np.pad(inputs[0], [(0, 0), *_paddings(node)], constant_values=node.outputs[0].zero_point)]


def _check_transpose(node: Node) -> None:
    x = values(node.inputs[0] if node.inputs else None)
    need_form(node, (1,), len(x.shape))
    output = values(node.outputs[0])
    _need_units(x, output)
    need(sorted(node.options) == [*range(len(x.shape))], f"orders the axes as {list(node.options)}")
    need_shape(output, tuple(x.shape[axis] for axis in node.options))


def _run_transpose(node: Node, inputs: Sequence[Array | None], _: Open) -> list[Array]:
    assert inputs[0] is not None
    return [np.ascontiguousarray(inputs[0].transpose(0, *(axis + 1 for axis in node.options)))]


def slices(options: bytes) -> list[tuple[int, int]]:
    """Begin and stride per axis."""
    pairs, position = [], 0
    while position < len(options):
        begin, position = _varint(options, position)
        need(position < len(options), "lacks a stride")
        stride = options[position]
        pairs.append((begin, stride - 256 if stride > 127 else stride))
        position += 1
    return pairs


def _check_strided_slice(node: Node) -> None:
    need_form(node, (1,), len(node.options))
    x, output, given = values(node.inputs[0]), values(node.outputs[0]), slices(node.options)
    _need_units(x, output)
    ranks = len(x.shape), len(output.shape), len(given)
    need(len(set(ranks)) == 1, f"has {ranks[2]} slices of {ranks[0]} axes for {ranks[1]}")
    for size, count, (begin, stride) in zip(x.shape, output.shape, given, strict=True):
        last = begin + (count - 1) * stride
        need(stride != 0 and begin < size and 0 <= last < size, f"slices beyond the shape {x.shape}")


def _run_strided_slice(node: Node, inputs: Sequence[Array | None], _: Open) -> list[Array]:
    assert inputs[0] is not None
    result = inputs[0]
    for axis, (count, (begin, stride)) in enumerate(
        zip(node.outputs[0].shape, slices(node.options), strict=True), 1
    ):
        end = begin + count * stride
        chosen = slice(begin, end if end >= 0 else None, stride)
        result = result[(slice(None),) * axis + (chosen,)]
    return [np.ascontiguousarray(result)]


def _maps(node: Node) -> tuple[list[int], list[int]]:
    """Per output row the input's row, per output column the input's column."""
    numbers, rows = varints(node.options), node.outputs[0].shape[1]
    return numbers[:rows], numbers[rows:]


def _check_resize(node: Node) -> None:
    need_form(node, (1,), len(node.options))
    x, output = values(node.inputs[0]), values(node.outputs[0])
    _need_units(x, output)
    need(len(x.shape) == len(output.shape) == 4, f"resizes shape {x.shape} to {output.shape}")
    need_shape(output, (x.shape[0], *output.shape[1:3], x.shape[3]))
    need(
        len(varints(node.options)) == sum(output.shape[1:3]), "does not have a row and a column per output's"
    )
    rows, columns = _maps(node)
    need(max(rows) < x.shape[1] and max(columns) < x.shape[2], f"takes values beyond the shape {x.shape}")


def _run_resize(node: Node, inputs: Sequence[Array | None], _: Open) -> list[Array]:
    rows, columns = _maps(node)
    assert inputs[0] is not None
    return [inputs[0][:, :, rows][:, :, :, columns]]


def _need_units(x: Tensor, output: Tensor) -> None:
    same = (x.scale, x.zero_point) == (output.scale, output.zero_point)
    need(same, "has an output scale or zero point other than its input's")


def varints(options: bytes) -> list[int]:
    """All of the options, which are unsigned LEB128 numbers."""
    numbers, position = [], 0
    while position < len(options):
        number, position = _varint(options, position)
        numbers.append(number)
    return numbers


def _varint(options: bytes, position: int) -> tuple[int, int]:
    """The number at a position, and the position behind it."""
    number = shift = 0
    while position < len(options) and shift < 35:
        number |= (options[position] & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if options[position - 1] < 0x80 and number < 1 << 31:
            return number, position
    raise PackError("has a number in its options that does not end or is too large")


CONCATENATION = Kernel("CONCATENATION", _check_concatenation, _run_concatenation)
PAD = Kernel("PAD", _check_pad, _run_pad)
TRANSPOSE = Kernel("TRANSPOSE", _check_transpose, _run_transpose)
STRIDED_SLICE = Kernel("STRIDED_SLICE", _check_strided_slice, _run_strided_slice)
RESIZE_NEAREST_NEIGHBOR = Kernel("RESIZE_NEAREST_NEIGHBOR", _check_resize, _run_resize)
