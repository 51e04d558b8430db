"""Tables of 256 bytes for the functions of one 8-bit tensor, equal to TFLite's reference kernels' results.

A table gives for each int8 (its byte as index) the output's int8; a uint8 tensor counts as the int8 that is
128 less.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from regrow.quant import quantize_multiplier, requantize, round_half_away, shift_right

from .tflite import Tensor

Array = NDArray[Any]
F32 = np.float32

HALF_WORD = 1 << 15


def table(name: str, options: Any, x: Tensor, y: Tensor) -> NDArray[np.int8]:
    """int8 (256,): what the operator of that name gives for each value of x, in units of y.

    Both are int8 or uint8 tensors of one scale. Raises ValueError for scales that the kernel refuses.
    """
    levels = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int64)
    bounds = np.iinfo(y.dtype)
    result = FUNCTIONS[name](levels + _shift(x) - _zero_point(x), options, x, y)
    return np.asarray(np.clip(result, bounds.min, bounds.max) - _shift(y), np.int8)


def concatenated(x: Tensor, y: Tensor) -> NDArray[np.int8]:
    """x in the units of y, as CONCATENATION of uint8 tensors requantizes its inputs, in float32."""
    levels = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int64) + _shift(x)
    scale = _scale(x) * (F32(1) / _scale(y))
    bias = F32(-_zero_point(x)) * scale
    result = _rounded(levels.astype(F32) * scale + bias) + _zero_point(y)
    bounds = np.iinfo(y.dtype)
    return np.asarray(np.clip(result, bounds.min, bounds.max) - _shift(y), np.int8)


def _shift(tensor: Tensor) -> int:
    return 128 if tensor.dtype == "uint8" else 0


def _scale(tensor: Tensor) -> np.float32:
    scale: np.float32 = tensor.scales[0]
    return scale


def _zero_point(tensor: Tensor) -> int:
    return int(tensor.zero_points[0])


def _rounded(x: Array) -> Array:
    return round_half_away(np.clip(x, -(2**30), 2**30)).astype(np.int64)


def _quantize(centred: Array, _: Any, x: Tensor, y: Tensor) -> Array:
    return requantize(centred, *quantize_multiplier(float(_scale(x)) / float(_scale(y)))) + _zero_point(y)


def _relu(low: float, high: float) -> Callable[[Array, Any, Tensor, Tensor], Array]:
    def function(centred: Array, _: Any, x: Tensor, y: Tensor) -> Array:
        result = requantize(centred, *quantize_multiplier(float(_scale(x) / _scale(y))))
        bounds = [_rounded(np.asarray(F32(limit) / _scale(y))) for limit in (low, high)]
        return np.clip(result, *bounds) + _zero_point(y)

    return function


def _leaky_relu(centred: Array, options: Any, x: Tensor, y: Tensor) -> Array:
    above = requantize(centred, *quantize_multiplier(float(_scale(x) / _scale(y))))
    slope = float(_scale(x) * F32(options.alpha) / _scale(y))
    multiplier, shift = quantize_multiplier(abs(slope))
    below = requantize(centred, int(multiplier) * int(math.copysign(1, slope)), shift)
    return np.where(centred >= 0, above, below) + _zero_point(y)


def _real(function: Callable[[Array], Array]) -> Callable[[Array, Any, Tensor, Tensor], Array]:
    """A function of real numbers, computed in float32."""

    def quantized(centred: Array, _: Any, x: Tensor, y: Tensor) -> Array:
        real = function(_scale(x) * centred.astype(F32)).astype(F32)
        return _rounded(real * (F32(1) / _scale(y))) + _zero_point(y)

    return quantized


def _logistic(x: Array) -> Array:
    with np.errstate(over="ignore"):
        exp = np.exp(-x.astype(np.float64)).astype(F32)
        return np.asarray(F32(1) / (F32(1) + exp))


def _tanh(x: Array) -> Array:
    return np.tanh(x.astype(np.float64))


def _hard_swish(centred: Array, _: Any, x: Tensor, y: Tensor) -> Array:
    """x * relu6(x + 3) / 6 in 16-bit fixed point; the gate relu6(x + 3) / 6 counts in units of 2^-15."""
    fine = _scale(x) * F32(1 / 128)
    multiplier, shift = quantize_multiplier(float(fine / _scale(y)))
    gate_multiplier, gate_shift = quantize_multiplier(float(fine / F32(3 / 32768)))
    if shift > 0:
        raise ValueError("its output scale is too small for its input scale")
    wide = centred << 7
    gate = wide
    if gate_shift > 0:
        gate = _half_word(gate << (gate_shift - 1))
    gate = _high_mul_16(gate, _upper_half(gate_multiplier))
    gate = _half_word(gate << 1) if gate_shift > 0 else shift_right(gate, -gate_shift)
    gate = (gate + HALF_WORD) >> 1
    value = _high_mul_16(wide, _upper_half(multiplier))
    product = np.trunc(gate * value / HALF_WORD).astype(np.int64)
    return shift_right(product, -shift) + _zero_point(y)


def _half_word(x: Array) -> Array:
    return np.clip(x, -HALF_WORD, HALF_WORD - 1)


def _upper_half(multiplier: Array) -> int:
    """The 31-bit multiplier rounded to 15 bits."""
    return min((int(multiplier) + HALF_WORD) >> 16, HALF_WORD - 1)


def _high_mul_16(x: Array, by: int) -> Array:
    """round(x * by / 2^15), halves upward: gemmlowp's SaturatingRoundingDoublingHighMul of 16 bits."""
    return (x * by + (1 << 14)) >> 15


FUNCTIONS: dict[str, Callable[[Array, Any, Tensor, Tensor], Array]] = {
    "HARD_SWISH": _hard_swish,
    "LEAKY_RELU": _leaky_relu,
    "LOGISTIC": _real(_logistic),
    "QUANTIZE": _quantize,
    "RELU": _relu(0, math.inf),
    "RELU6": _relu(0, 6),
    "RELU_N1_TO_1": _relu(-1, 1),
    "TANH": _real(_tanh),
}
