"""Fixed-point arithmetic of TFLite's int8 kernels, vectorised.

Sources: TFLite's quantization specification; Jacob et al., "Quantization and Training of Neural Networks
for Efficient Integer-Arithmetic-Only Inference" (2017), section 2.2.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regrow.errors import InputError

Array = NDArray[Any]

NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)


def quantize_multiplier(real: ArrayLike) -> tuple[Array, Array]:
    """real -> (m, s), int64 arrays, with real ~ m * 2^(s - 31) and m in 2^30..2^31-1 (or 0)."""
    fraction, shift = np.frexp(np.asarray(real, np.float64))
    multiplier = round_half_away(fraction * (1 << 31)).astype(np.int64)
    shift = shift.astype(np.int64)
    carry = multiplier == 1 << 31
    multiplier = np.where(carry, 1 << 30, multiplier)
    shift = shift + carry
    vanishes = shift < -31
    return np.where(vanishes, 0, multiplier), np.where(vanishes, 0, shift)


def requantize(values: Array, multiplier: ArrayLike, shift: ArrayLike) -> Array:
    """values * multiplier * 2^(shift - 31), rounded twice as TFLite's kernels do; int64.

    First the high half of the doubled product, rounded to nearest, then the right shift, rounded half
    away from zero. The last axis of `values` goes with multiplier and shift.
    """
    left, right = np.maximum(shift, 0), np.maximum(np.negative(shift), 0)
    return shift_right(high_mul(values.astype(np.int64) << left, multiplier), right)


def requantize_once(values: Array, multiplier: ArrayLike, shift: ArrayLike) -> Array:
    """values * multiplier * 2^(shift - 31), rounded once, halves upward, as FULLY_CONNECTED does; int64."""
    total = np.subtract(31, shift, dtype=np.int64)
    product: Array = np.multiply(values, multiplier, dtype=np.int64)
    product += np.left_shift(1, total - 1, dtype=np.int64)
    product >>= total
    return product


def high_mul(a: ArrayLike, b: ArrayLike) -> Array:
    """round(a * b / 2^31), halves upward: gemmlowp's SaturatingRoundingDoublingHighMul."""
    product: Array = np.multiply(a, b, dtype=np.int64)[...]
    product += 1 << 30
    product >>= 31
    return product


def shift_right(x: Array, by: ArrayLike) -> Array:
    """x / 2^by, rounded half away from zero: gemmlowp's RoundingDivideByPOT."""
    half = np.left_shift(1, by, dtype=np.int64) >> 1
    rounded: Array = x + half
    rounded -= (x < 0) & (half > 0)
    rounded >>= np.asarray(by, np.int64)
    return rounded


def round_half_away(x: ArrayLike) -> Array:
    """Nearest integer, halves away from zero, as C's round; keeps the float type."""
    x = np.asarray(x)
    whole = np.trunc(x)
    rounded: Array = whole + np.copysign(np.abs(x - whole) >= 0.5, x)
    return rounded


def clamp(x: Array, bounds: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    """x, changed in place, within bounds and as dtype."""
    np.clip(x, *bounds, out=x)
    return x.astype(dtype)


def activation_range(activation: int, scale: float, zero_point: int, dtype: np.dtype[Any]) -> tuple[int, int]:
    """The integers that a fused activation lets through."""
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    if activation == RELU:
        return max(low, zero_point), high
    if activation == RELU6:
        return max(low, zero_point), min(high, zero_point + _level(6, scale))
    if activation == RELU_N1_TO_1:
        return max(low, zero_point + _level(-1, scale)), min(high, zero_point + _level(1, scale))
    return low, high


def _level(real: float, scale: float) -> int:
    with np.errstate(over="ignore"):
        steps = np.clip(np.float32(real) / np.float32(scale), -(2**30), 2**30)
    return int(round_half_away(steps))


def quantize(x: Array, scale: float, zero_point: int, dtype: np.dtype[Any]) -> Array:
    """Real values -> integers of dtype, rounded half away from zero and clamped; NaN raises InputError."""
    if np.isnan(x).any():
        raise InputError("the input contains NaN, which no integer stands for")
    info = np.iinfo(dtype)
    with np.errstate(over="ignore"):
        steps = np.clip(x.astype(np.float32) / np.float32(scale), -(2**30), 2**30)
    return np.clip(round_half_away(steps).astype(np.int64) + zero_point, info.min, info.max).astype(dtype)


def dequantize(x: Array, scale: float, zero_point: int) -> Array:
    """Integers -> real values, float32."""
    centred = (x.astype(np.int64) - zero_point).astype(np.float32)
    real: Array = centred * np.float32(scale)
    return real
