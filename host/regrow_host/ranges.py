"""The ranges that the int8 activations of a network count in: those of least error on calibration samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]
from numpy.typing import NDArray

from .tflite import Model

Floats = NDArray[np.float32]
Range = tuple[float, float]

VALUES = 1 << 16
"""Of each tensor that are kept, over all samples."""
BINS = 2048
SHARES = np.linspace(1.0, 0.2, 41)
"""Of the extremes, that are tried."""
STEPS = 255


def measure(model: Model, data: bytes, x: Floats, progress: Callable[[int], None]) -> dict[int, Range]:
    """Per float tensor that the network computes its range; `data` is the file of `model`, x (n, *its input).

    `progress(done)` is called after each sample.
    """
    interpreter = Interpreter(model_content=data, experimental_preserve_all_tensors=True, num_threads=1)
    interpreter.allocate_tensors()
    outputs = {i for operator in model.operators for i in operator.outputs}
    tensors = [i for i in sorted(outputs | set(model.inputs)) if model.tensors[i].dtype == "float32"]
    kept: Mapping[int, list[Floats]] = {i: [] for i in tensors}
    most = max(1, VALUES // len(x))
    random = np.random.default_rng(0)
    for done, sample in enumerate(x, 1):
        interpreter.set_tensor(model.inputs[0], sample)
        interpreter.invoke()
        for i in tensors:
            kept[i].append(_some(interpreter.get_tensor(i).reshape(-1), most, random))
        progress(done)
    return {i: least_error(*np.concatenate(values, axis=1)) for i, values in kept.items()}


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
