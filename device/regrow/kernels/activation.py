"""SOFTMAX in fixed point, as TFLite's reference kernel computes it with gemmlowp's functions.

Q(n) is a 32-bit fixed-point number with n integer bits; 1 in Q(0) is 2^31 - 1.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from regrow.kernels.base import Array, Kernel, Open, need, need_form, need_shape, values
from regrow.quant import clamp, high_mul, quantize_multiplier, shift_right

if TYPE_CHECKING:
    from regrow.graph import Node

ONE = (1 << 31) - 1
DIFFERENCE_BITS = 5
SUM_BITS = 12
EXP_OF_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
"""exp(-2^k) in Q(0) for k = -2..4."""


def _check_softmax(node: Node) -> None:
    need_form(node, (1,), 4)
    x, output = values(node.inputs[0]), values(node.outputs[0])
    (beta,) = struct.unpack("<f", node.options)
    need(len(x.shape) > 0, "has an input without axes")
    steep = math.isfinite(beta) and beta * x.scale * (1 << (31 - DIFFERENCE_BITS)) > 1
    need(steep, f"has beta {beta} for an input of scale {x.scale}")
    need_shape(output, x.shape)
    need((output.scale, output.zero_point) == (1 / 256, -128), "has an output scale other than 1/256")


def _run_softmax(node: Node, inputs: Sequence[Array | None], _: Open) -> list[Array]:
    x, output = values(node.inputs[0]), node.outputs[0]
    (beta,) = struct.unpack("<f", node.options)
    exp, lowest = exp_table(beta * x.scale)

    assert inputs[0] is not None
    levels = inputs[0].astype(np.int64)
    below = levels.max(-1, keepdims=True) - levels
    kept = below <= lowest
    terms = np.where(kept, exp[below], 0)
    total = shift_right(terms, SUM_BITS).sum(-1, keepdims=True)
    scale, bits = reciprocal(total)
    result = shift_right(high_mul(scale, terms), bits + 31 - 8) + output.zero_point
    return [clamp(np.where(kept, result, output.zero_point), (-128, 127), output.dtype)]


def exp_table(scale: float) -> tuple[Array, int]:
    """exp(-d * scale) in Q(0) for the levels d = 0..255 below the maximum, and the last d that counts."""
    real = min(scale * (1 << (31 - DIFFERENCE_BITS)), float(ONE))
    multiplier, shift = quantize_multiplier(real)
    radius = ((1 << DIFFERENCE_BITS) - 1) * 2.0 ** (31 - DIFFERENCE_BITS - int(shift))
    lowest = min(255, math.floor(radius))
    levels = np.minimum(np.arange(256, dtype=np.int64), lowest)
    return exp_of_negative(high_mul(-levels << shift, multiplier)), lowest


def exp_of_negative(a: Array) -> Array:
    """exp(a) in Q(0) for a <= 0 in Q(5): a quarter's remainder by series, the rest by powers of 2."""
    fraction = 31 - DIFFERENCE_BITS
    quarter = 1 << (fraction - 2)
    remainder = (a & (quarter - 1)) - quarter
    result = _exp_of_quarter(remainder << DIFFERENCE_BITS)
    rest = remainder - a
    for power, factor in enumerate(EXP_OF_POWERS, fraction - 2):
        result = np.where(rest >> power & 1, high_mul(result, factor), result)
    return np.where(a == 0, ONE, result)


def _exp_of_quarter(a: Array) -> Array:
    """exp(a) in Q(0) for -1/4 <= a < 0, by the series of degree 4 around -1/8."""
    at_centre, third = 1895147668, 715827883
    x = a + (1 << 28)
    square = high_mul(x, x)
    cube = high_mul(square, x)
    fourth = shift_right(high_mul(square, square), 2)
    tail = shift_right(high_mul(fourth + cube, third) + square, 1)
    return at_centre + high_mul(at_centre, x + tail)


def reciprocal(total: Array) -> tuple[Array, Array]:
    """1 / total for total >= 1 in Q(12): a Q(0) mantissa and its right shift."""
    bits = np.frexp(total.astype(np.float64))[1].astype(np.int64)
    above_one = (total << (32 - bits)) - (1 << 31)
    return _one_over_one_plus(above_one), SUM_BITS - (32 - bits)


def _one_over_one_plus(a: Array) -> Array:
    """1 / (1 + a) in Q(0) for 0 <= a < 1: Newton's division by (1 + a) / 2 in Q(2), then halved."""
    half = (a + ONE + 1) >> 1
    x = 1515870810 + high_mul(half, -1010580540)
    for _ in range(3):
        error = (1 << 29) - high_mul(half, x)
        x = x + (high_mul(x, error) << 2)
    return np.asarray(np.minimum(x << 1, ONE))


SOFTMAX = Kernel("SOFTMAX", _check_softmax, _run_softmax)
