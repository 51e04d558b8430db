"""The ranges that the int8 activations of a network count in: those of least error on calibration samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]
from numpy.typing import NDArray

from .tflite import Model

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Range = tuple[float, float]

VALUES = 1 << 16
"""Of each tensor that are kept, over all samples."""
BINS = 2048
SHARES = np.linspace(1.0, 0.2, 41)
"""Of the extremes, that are tried."""
STEPS = 255
SILENT = 0.0, 1.0
"""The range of a tensor that is 0 on all samples: units of 0 would let sums overflow."""


def measure(model: Model, data: bytes, x: Floats, progress: Callable[[int], None]) -> dict[int, Range]:
    """Per float tensor that the network computes its range; `data` is the file of `model`, x (n, *its input).

    `progress(done)` is called after each sample.
    """
    kept: dict[int, list[Floats]] = {}
    most = max(1, VALUES // len(x))
    random = np.random.default_rng(0)
    for done, values in enumerate(_activations(model, data, x), 1):
        for i, array in values.items():
            kept.setdefault(i, []).append(_some(array.reshape(-1), most, random))
        progress(done)
    found = {i: least_error(*np.concatenate(values, axis=1)) for i, values in kept.items()}
    return {i: each if each[0] < each[1] else SILENT for i, each in found.items()}


def peaks(model: Model, data: bytes, x: Floats, progress: Callable[[int], None]) -> dict[int, Doubles]:
    """Per float tensor the largest absolute value in each channel (its last axis), as with `measure`."""
    found: dict[int, Doubles] = {}
    for done, values in enumerate(_activations(model, data, x), 1):
        for i, array in values.items():
            channels = np.abs(array.reshape(-1, array.shape[-1] if array.ndim else 1)).astype(np.float64)
            largest = np.nan_to_num(channels.max(axis=0, initial=0))
            found[i] = np.maximum(found.get(i, largest), largest)
        progress(done)
    return found


def _activations(model: Model, data: bytes, x: Floats) -> Iterator[dict[int, Floats]]:
    """Per sample the float tensors that the network computes, its inputs among them."""
    interpreter = Interpreter(model_content=data, experimental_preserve_all_tensors=True, num_threads=1)
    interpreter.allocate_tensors()
    outputs = {i for operator in model.operators for i in operator.outputs}
    tensors = [i for i in sorted(outputs | set(model.inputs)) if model.tensors[i].dtype == "float32"]
    for sample in x:
        interpreter.set_tensor(model.inputs[0], sample)
        interpreter.invoke()
        yield {i: interpreter.get_tensor(i) for i in tensors}


def _some(values: Floats, most: int, random: np.random.Generator) -> Floats:
    """At most so many of the values and, whatever they are, the extremes; below, how many each stands for."""
    if len(values) <= most:
        return np.stack([values, np.ones_like(values)])
    chosen = np.append(values[random.integers(0, len(values), most)], [values.min(), values.max()])
    counts = np.full(most + 2, len(values) / most)
    counts[most:] = 1
    return np.stack([chosen, counts]).astype(np.float32)


def least_error(values: NDArray[Any], weights: NDArray[Any]) -> Range:
    """The range around 0 in which 8 bits stand for the values (n,) with the least weighted squared error."""
    known = np.isfinite(values)
    finite, weights = values[known].astype(np.float64), weights[known]
    low, high = float(finite.min(initial=0)), float(finite.max(initial=0))
    if low == high:
        return low, high
    counts, edges = np.histogram(finite, BINS, (low, high), weights=weights)
    centres, counts = (edges[1:] + edges[:-1])[counts > 0] / 2, counts[counts > 0]

    def error(given: Range) -> float:
        step = (given[1] - given[0]) / STEPS
        clipped = np.maximum(np.maximum(centres - given[1], given[0] - centres), 0)
        # Rounding within the range costs a twelfth of a step's square, a uniform distribution's variance.
        return float((counts * (clipped**2 + step**2 / 12)).sum())

    best = low, high
    for _ in range(2):
        best = min(((low * share, best[1]) for share in SHARES), key=error)
        best = min(((best[0], high * share) for share in SHARES), key=error)
    return best
