"""CONV_2D and DEPTHWISE_CONV_2D, as TFLite's reference_integer_ops compute them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from regrow.kernels.base import (
    Array,
    Kernel,
    Open,
    bias_of,
    exact_float,
    filters,
    grow,
    multipliers,
    need,
    need_bias,
    need_form,
    need_shape,
    pieces,
    tiles,
    values,
    weight_zero_point,
    weights_of,
)
from regrow.kernels.window import Axis, axes, need_windows, pad, windows
from regrow.quant import activation_range, clamp, quantize_multiplier, requantize

if TYPE_CHECKING:
    from regrow.graph import Node, Tensor

OPTIONS = 6


def _axes(node: Node, image: Tensor, taps: Tensor) -> tuple[Axis, Axis]:
    stride_h, stride_w, dilation_h, dilation_w, padding = node.options[:5]
    size = (taps.shape[1], taps.shape[2])
    return axes(image.shape, size, (stride_h, stride_w), (dilation_h, dilation_w), padding)


def _check(node: Node) -> tuple[Tensor, Tensor, Tensor]:
    need_form(node, (2, 3), OPTIONS, optional=1)
    image, taps, output = values(node.inputs[0]), filters(node.inputs[1], 4), values(node.outputs[0])
    need(len(image.shape) == 4, f"has an input of rank {len(image.shape)} instead of 4")
    y, x = _axes(node, image, taps)
    need_windows(y, x, *node.options[4:OPTIONS])
    return image, taps, output


def _check_conv(node: Node) -> None:
    image, taps, output = _check(node)
    channels, *_, depth = taps.shape
    need(depth == image.shape[3], f"has filters of depth {depth} on {image.shape[3]} channels")
    need_bias(node, channels)
    y, x = _axes(node, image, taps)
    need_shape(output, (image.shape[0], y.count, x.count, channels))


def _check_depthwise(node: Node) -> None:
    image, taps, output = _check(node)
    one, *_, channels = taps.shape
    need(one == 1 and channels % image.shape[3] == 0, f"has a filter of shape {taps.shape} for {image.shape}")
    need_bias(node, channels)
    y, x = _axes(node, image, taps)
    need_shape(output, (image.shape[0], y.count, x.count, channels))


def requantizer(image: Tensor, output: Tensor, scales: Array, zero_point: int | None) -> tuple[Array, Array]:
    """Multiplier and shift per channel; TFLite's uint8 kernels round the product of the scales to float32."""
    product = np.float64 if zero_point is None else np.float32
    return quantize_multiplier(multipliers(image, output, scales, product))


def _run_conv(node: Node, inputs: Sequence[Array | None], open_weights: Open) -> list[Array]:
    """Sums of raw products by matrix product; the input's zero point enters through the weights' sums."""
    image, taps, output = _check(node)
    channels, height, width, depth = taps.shape
    y, x = _axes(node, image, taps)
    weights, scales = weights_of(node, open_weights, channels)
    zero_point = weight_zero_point(node, OPTIONS)
    multiplier, shift = requantizer(image, output, scales, zero_point)
    bias = bias_of(node, channels)
    bounds = activation_range(node.options[5], output.scale, output.zero_point, output.dtype)

    terms = height * width * depth
    exact = exact_float(terms)
    assert inputs[0] is not None
    images = inputs[0].reshape(-1, *image.shape[1:])
    view = windows(pad(images, y, x, image.zero_point), y, x)
    result = np.empty((len(images), y.count, x.count, channels), output.dtype)
    for tile in tiles(channels, terms):
        levels = grow(weights, (tile.stop - tile.start) * terms, zero_point or 0).reshape(-1, terms)
        start = bias[tile] - image.zero_point * levels.sum(1, dtype=np.int64)
        matrix = levels.T.astype(exact)
        row_bytes = x.count * (terms * exact.itemsize + 32 * len(levels))
        for samples, rows in pieces(len(images), y.count, row_bytes):
            piece = view[samples, rows]
            sums = piece.astype(exact).reshape(-1, terms) @ matrix
            total = requantize(sums.astype(np.int64) + start, multiplier[tile], shift[tile])
            total += output.zero_point
            result[samples, rows, :, tile] = clamp(total, bounds, output.dtype).reshape(
                *piece.shape[:3], len(levels)
            )
    return [result.reshape(-1, *output.shape)]


def _run_depthwise(node: Node, inputs: Sequence[Array | None], open_weights: Open) -> list[Array]:
    """Tap by tap. The filter is one tile: it is no larger than the rows of the image it lies on."""
    image, taps, output = _check(node)
    _, height, width, channels = taps.shape
    y, x = _axes(node, image, taps)
    weights, scales = weights_of(node, open_weights, channels)
    zero_point = weight_zero_point(node, OPTIONS)
    multiplier, shift = requantizer(image, output, scales, zero_point)
    bias = bias_of(node, channels)
    bounds = activation_range(node.options[5], output.scale, output.zero_point, output.dtype)

    depth = image.shape[3]
    levels = grow(weights, taps.size, zero_point or 0).reshape(height, width, depth, -1).astype(np.int32)
    start = bias - image.zero_point * levels.sum((0, 1), dtype=np.int64).reshape(-1)
    assert inputs[0] is not None
    images = inputs[0].reshape(-1, *image.shape[1:])
    view = windows(pad(images, y, x, image.zero_point), y, x)
    result = np.empty((len(images), y.count, x.count, channels), output.dtype)
    for samples, rows in pieces(len(images), y.count, x.count * channels * 40):
        piece = view[samples, rows]
        sums = np.zeros((*piece.shape[:3], *levels.shape[2:]), np.int32)
        for i in range(height):
            for j in range(width):
                sums += piece[:, :, :, i, j, :, None] * levels[i, j]
        total = requantize(sums.reshape(*piece.shape[:3], channels) + start, multiplier, shift)
        total += output.zero_point
        result[samples, rows] = clamp(total, bounds, output.dtype)
    return [result.reshape(-1, *output.shape)]


CONV_2D = Kernel("CONV_2D", _check_conv, _run_conv)
DEPTHWISE_CONV_2D = Kernel("DEPTHWISE_CONV_2D", _check_depthwise, _run_depthwise)
