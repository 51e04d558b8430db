"""Codec central: a mean and a standard deviation for each batch of weights (weight centralization)."""

import math
import struct
from io import BytesIO
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from regrow import codecs
from regrow.codecs.central import BATCH, LAYER, MEAN, UNIFORM, UNITARY
from regrow.errors import InputError
from regrow.reader import Reader
from regrow.weights import Weights

from regrow_host.encode import weights_part

__all__ = ["BATCH", "LAYER", "MEAN", "UNIFORM", "UNITARY", "encode"]

_LIMIT = 32767


class _Form(NamedTuple):
    weights: int
    unit: int
    restoration: int
    seed: int
    size: int


def encode(  # noqa: PLR0917 - the statistics' names, in their usual order
    weights: npt.NDArray[np.float32],
    unit: int,
    restoration: int,
    batch_size: int | None = None,
    seed: int = 0,
    mean: float | None = None,
    std: float | None = None,
) -> bytes:
    """The part that grows around the means of the flattened `weights`.

    `batch_size` is that of unit BATCH; `mean` and `std` are those of the whole network, for unit UNITARY.
    The bias is the whole number of steps that brings the grown mean nearest to that of `weights`.
    Raises InputError for weights that are not finite or too large.
    """
    original = weights.astype(np.float64).ravel()
    if not np.isfinite(original).all():
        raise InputError("some weights are not finite numbers")
    size = original.size if unit != BATCH else min(batch_size or 1, original.size)
    if mean is None or std is None:
        means, stds = _statistics(original, size)
    else:
        means, stds = np.array([mean]), np.array([std])
    if restoration == MEAN:
        stds = np.zeros_like(stds)
    form = _Form(original.size, unit, restoration, seed, size)
    largest = max(np.abs(means).max(), stds.max(), abs(original.mean()))
    for exponent in range(max(-120, math.frexp(largest)[1] - 23), 81):
        steps = np.rint(np.ldexp(np.array([means, stds]), -exponent - 8)).astype(np.int64)
        if np.abs(steps).max() > _LIMIT:
            continue
        k = _grown(_part(form, steps, exponent, 24, 0), exponent)
        bias = round(math.ldexp(original.mean(), -exponent - 8) - k.mean() / 256)
        if max(abs(bias), np.abs(steps[0] + bias).max()) > _LIMIT:
            continue
        return _part(form, steps, exponent, _shift(k + (bias << 8)), bias)
    raise InputError(f"weights as large as {np.abs(original).max():.3g} cannot be centralized")


def _statistics(
    weights: npt.NDArray[np.float64], size: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation of each `size` consecutive weights."""
    starts = np.arange(0, weights.size, size)
    counts = np.diff(starts, append=weights.size)
    means = np.add.reduceat(weights, starts) / counts
    deviations = weights - np.repeat(means, counts)
    return means, np.sqrt(np.add.reduceat(deviations**2, starts) / counts)


def _grown(part: bytes, exponent: int) -> npt.NDArray[np.int64]:
    """What a device grows from the part, in units of 2^exponent."""
    weights = Weights(Reader(BytesIO(part), 0, len(part)))
    grown = np.empty(weights.count, np.float32)
    weights.read_floats(grown)
    return np.ldexp(grown.astype(np.float64), -exponent).astype(np.int64)


def _shift(k: npt.NDArray[np.int64]) -> int:
    """The smallest shift with which every k gives a level within +-127."""
    low, high = int(k.min()), int(k.max())
    shift = 1
    while (high + (1 << shift - 1)) >> shift > 127 or (low + (1 << shift - 1)) >> shift < -127:
        shift += 1
    return shift


def _part(form: _Form, steps: npt.NDArray[np.int64], exponent: int, shift: int, bias: int) -> bytes:
    """The part of the statistics `steps`: row 0 the means, row 1 the standard deviations."""
    head = struct.pack("<BBbBhII", form.unit, form.restoration, exponent, shift, bias, form.seed, form.size)
    records = steps[: 1 if form.restoration == MEAN else 2].T.astype("<i2").tobytes()
    return weights_part(codecs.CENTRAL, codecs.INT8, form.weights, head + records)
