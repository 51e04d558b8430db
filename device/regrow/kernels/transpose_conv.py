"""TRANSPOSE_CONV, as TFLite's reference_integer_ops compute it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from regrow.kernels.base import (
    Array,
    Kernel,
    Open,
    bias_of,
    filters,
    grow,
    need,
    need_bias,
    need_form,
    pieces,
    tiles,
    values,
    weight_zero_point,
    weights_of,
)
from regrow.kernels.conv import requantizer
from regrow.kernels.window import Axis, axes, need_windows
from regrow.quant import activation_range, clamp, requantize

if TYPE_CHECKING:
    from regrow.graph import Node, Tensor

OPTIONS = 4


def _axes(node: Node, taps: Tensor) -> tuple[Axis, Axis]:
    """Where windows lie on the output, one for each of the image's values."""
    stride_h, stride_w, padding = node.options[:3]
    size = (taps.shape[1], taps.shape[2])
    return axes(node.outputs[0].shape, size, (stride_h, stride_w), (1, 1), padding)


def _check(node: Node) -> None:
    need_form(node, (2, 3), OPTIONS, optional=1)
    image, taps, output = values(node.inputs[0]), filters(node.inputs[1], 4), values(node.outputs[0])
    channels, *_, depth = taps.shape
    need(len(image.shape) == len(output.shape) == 4, f"turns shape {image.shape} into {output.shape}")
    need(depth == image.shape[3], f"has filters of depth {depth} on {image.shape[3]} channels")
    need_bias(node, channels)
    y, x = _axes(node, taps)
    need_windows(y, x, *node.options[2:OPTIONS])
    fits = image.shape[:3] == (output.shape[0], y.count, x.count) and output.shape[3] == channels
    need(fits, f"gives shape {output.shape} for an input of shape {image.shape}")


def _run(node: Node, inputs: Sequence[Array | None], open_weights: Open) -> list[Array]:
    """Each value of the image, times the filter, is added to a window of the output."""
    image, taps, output = values(node.inputs[0]), filters(node.inputs[1], 4), values(node.outputs[0])
    channels, height, width, depth = taps.shape
    y, x = _axes(node, taps)
    weights, scales = weights_of(node, open_weights, channels)
    zero_point = weight_zero_point(node, OPTIONS)
    multiplier, shift = requantizer(image, output, scales, zero_point)
    bias = bias_of(node, channels)
    bounds = activation_range(node.options[3], output.scale, output.zero_point, output.dtype)

    assert inputs[0] is not None
    images = inputs[0].reshape(-1, *image.shape[1:])
    result = np.empty((len(images), *output.shape[1:]), output.dtype)
    for tile in tiles(channels, height * width * depth):
        levels = grow(weights, (tile.stop - tile.start) * height * width * depth, zero_point or 0)
        matrices = levels.reshape(-1, height, width, depth).transpose(1, 2, 3, 0).astype(np.float64)
        row_bytes = 8 * output.shape[1] * output.shape[2] * matrices.shape[-1]
        for samples, _ in pieces(len(images), 1, row_bytes):
            centred = images[samples].astype(np.float64) - image.zero_point
            sums = _spread(centred, matrices, y, x) + bias[tile]
            total = requantize(sums, multiplier[tile], shift[tile])
            total += output.zero_point
            result[samples, :, :, tile] = clamp(total, bounds, output.dtype)
    return [result.reshape(-1, *output.shape)]


def _spread(centred: Array, matrices: Array, y: Axis, x: Axis) -> Array:
    """int64 (n, rows, columns, channels of the tile); the padding's share is added and cut off."""
    size = y.given + sum(y.padding) + y.stride, x.given + sum(x.padding) + x.stride
    sums = np.zeros((len(centred), *size, matrices.shape[-1]), np.int64)
    for i in range(y.size):
        for j in range(x.size):
            rows = slice(i, i + y.count * y.stride, y.stride)
            columns = slice(j, j + x.count * x.stride, x.stride)
            sums[:, rows, columns] += (centred @ matrices[i, j]).astype(np.int64)
    top, left = y.padding[0], x.padding[0]
    return sums[:, top : top + y.given, left : left + x.given]


TRANSPOSE_CONV = Kernel("TRANSPOSE_CONV", _check, _run)
