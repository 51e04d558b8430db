"""FULLY_CONNECTED, as LiteRT's reference kernel computes it: unlike the others it rounds once."""

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
    need_activation,
    need_bias,
    need_form,
    pieces,
    tiles,
    values,
    weight_zero_point,
    weights_of,
)
from regrow.quant import activation_range, clamp, quantize_multiplier, requantize_once

if TYPE_CHECKING:
    from regrow.graph import Node


def _check(node: Node) -> None:
    need_form(node, (2, 3), 1, optional=1)
    x, matrix, output = values(node.inputs[0]), filters(node.inputs[1], 2), values(node.outputs[0])
    rows, terms = matrix.shape
    need_activation(node.options[0])
    need_bias(node, rows)
    need(x.size % terms == 0, f"has {terms} weights a row for an input of shape {x.shape}")
    fits = output.shape[-1:] == (rows,) and output.size * terms == x.size * rows
    need(fits, f"gives shape {output.shape} for an input of shape {x.shape} and weights {matrix.shape}")


def _run(node: Node, inputs: Sequence[Array | None], open_weights: Open) -> list[Array]:
    x, matrix, output = values(node.inputs[0]), filters(node.inputs[1], 2), values(node.outputs[0])
    rows, terms = matrix.shape
    weights, scales = weights_of(node, open_weights, rows)
    multiplier, shift = quantize_multiplier(multipliers(x, output, scales, np.float64))
    bias = bias_of(node, rows)
    bounds = activation_range(node.options[0], output.scale, output.zero_point, output.dtype)

    zero_point = weight_zero_point(node, 1) or 0
    exact = exact_float(terms)
    assert inputs[0] is not None
    vectors = inputs[0].reshape(-1, terms)
    result = np.empty((len(vectors), rows), output.dtype)
    for tile in tiles(rows, terms):
        levels = grow(weights, (tile.stop - tile.start) * terms, zero_point).reshape(-1, terms)
        start = bias[tile] - x.zero_point * levels.sum(1, dtype=np.int64)
        by_row = levels.T.astype(exact)
        for some, _ in pieces(len(vectors), 1, terms * exact.itemsize + 32 * len(levels)):
            sums = vectors[some].astype(exact) @ by_row
            total = requantize_once(sums.astype(np.int64) + start, multiplier[tile], shift[tile])
            total += output.zero_point
            result[some, tile] = clamp(total, bounds, output.dtype)
    return [result.reshape(-1, *output.shape)]


FULLY_CONNECTED = Kernel("FULLY_CONNECTED", _check, _run)
