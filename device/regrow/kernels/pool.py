"""AVERAGE_POOL_2D and MAX_POOL_2D, as TFLite's reference_integer_ops compute them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from regrow.kernels.base import Array, Kernel, Open, need, need_form, need_shape, pieces, values
from regrow.kernels.window import Axis, axes, need_windows, pad, windows
from regrow.quant import activation_range, clamp

if TYPE_CHECKING:
    from regrow.graph import Node, Tensor


def _axes(node: Node, image: Tensor) -> tuple[Axis, Axis]:
    stride_h, stride_w, height, width, padding = node.options[:5]
    return axes(image.shape, (height, width), (stride_h, stride_w), (1, 1), padding)


def _check_average(node: Node) -> None:
    _check(node, optional=1)
    need(node.options[6:] in (b"", b"\0", b"\1"), "has an unknown rounding")


def _check(node: Node, optional: int = 0) -> None:
    need_form(node, (1,), 6, optional)
    image, output = values(node.inputs[0]), values(node.outputs[0])
    need(len(image.shape) == 4, f"has an input of rank {len(image.shape)} instead of 4")
    y, x = _axes(node, image)
    need_windows(y, x, *node.options[4:6])
    need_shape(output, (image.shape[0], y.count, x.count, image.shape[3]))
    same_units = abs(image.scale - output.scale) <= 1e-6 and image.zero_point == output.zero_point
    need(same_units, "has an output scale or zero point other than its input's")


def _taps(
    images: Array, y: Axis, x: Axis, fill: int
) -> Iterator[tuple[tuple[slice, slice], Iterator[Array]]]:
    """Pieces of the output, each with its taps: arrays (n, rows, columns, c)."""
    view = windows(pad(images, y, x, fill), y, x)
    for samples, rows in pieces(len(images), y.count, x.count * images.shape[3] * 24):
        piece = view[samples, rows]
        yield (samples, rows), (piece[:, :, :, i, j] for i in range(y.size) for j in range(x.size))


def _covered(axis: Axis) -> Array:
    """How many taps of each window lie inside the input."""
    first = np.arange(axis.count) * axis.stride - axis.padding[0]
    return np.minimum(first + axis.size, axis.given) - np.maximum(first, 0)


def _run_average(node: Node, inputs: Sequence[Array | None], _: Open) -> list[Array]:
    """Mean of the taps inside the input, halves away from zero or, in networks that were uint8, upward."""
    image, output = values(node.inputs[0]), node.outputs[0]
    y, x = _axes(node, image)
    bounds = activation_range(node.options[5], output.scale, output.zero_point, output.dtype)
    counts = np.outer(_covered(y), _covered(x))[None, :, :, None].astype(np.int32)
    assert inputs[0] is not None
    images = inputs[0].reshape(-1, *image.shape[1:])
    result = np.empty((len(images), *output.shape[1:]), output.dtype)
    for (samples, rows), taps in _taps(images, y, x, 0):
        sums: Array = np.zeros((*result[samples, rows].shape,), np.int32)
        for tap in taps:
            sums += tap
        count = counts[:, rows]
        if node.options[6:] == b"\1":
            means = (sums + count // 2) // count
        else:
            means = np.sign(sums) * ((np.abs(sums) + count // 2) // count)
        result[samples, rows] = clamp(means, bounds, output.dtype)
    return [result.reshape(-1, *output.shape)]


def _run_max(node: Node, inputs: Sequence[Array | None], _: Open) -> list[Array]:
    image, output = values(node.inputs[0]), node.outputs[0]
    y, x = _axes(node, image)
    bounds = activation_range(node.options[5], output.scale, output.zero_point, output.dtype)
    lowest = int(np.iinfo(image.dtype).min)
    assert inputs[0] is not None
    images = inputs[0].reshape(-1, *image.shape[1:])
    result = np.full((len(images), *output.shape[1:]), lowest, output.dtype)
    for (samples, rows), taps in _taps(images, y, x, lowest):
        best = result[samples, rows]
        for tap in taps:
            np.maximum(best, tap, out=best)
    return [clamp(result, bounds, output.dtype).reshape(-1, *output.shape)]


AVERAGE_POOL_2D = Kernel("AVERAGE_POOL_2D", _check_average, _run_average)
MAX_POOL_2D = Kernel("MAX_POOL_2D", _check, _run_max)
