"""Rounding a whole network layer by layer, each on what the rounded layers before it give."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrow_host import gptq, options, tflite
from regrow_host.encode import short, snapped
from regrow_host.judge import divergence
from regrow_host.options import Layer, Option
from regrow_host.search import Candidate
from regrow_host.segments import Segments, State
from regrow_host.tflite import NewWeights, Tensor

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

ACTIVATIONS = 1 << 27
FEWEST_INPUTS, MOST_INPUTS = 256, 4096
RATING_SHARE = 4
"""One in so many inputs, but the fewest at least, goes through the network to rate a layer."""
BITS = 4.0, 2.5, 1.5, 0.8
"""A weight, at which the damage of a layer is measured; between, it is interpolated."""
LEAST_BITS = 0.4
STEPS_PER_OCTAVE = 8
MOST_OUTLYING = 8.0
"""The largest weight over those that have the finest step, at most."""
OCTAVES = 8
SMALLEST_DAMAGE = 1e-12


def affordable(model: tflite.Model) -> int:
    """How many inputs may go through the network at every pass."""
    values = sum(math.prod(model.tensors[i].shape) for each in model.operators for i in each.outputs)
    return min(max(ACTIVATIONS // max(1, values), FEWEST_INPUTS), MOST_INPUTS)


def effort(model: tflite.Model) -> float:
    """Multiplications that one input takes, nearly."""
    total = 0.0
    for weights in tflite.weight_tensors(model):
        operator = model.operators[weights.operator]
        total += weights.count * math.prod(model.tensors[operator.outputs[0]].shape) / weights.channels
    return total


class Rounding:
    """Rounds the layers of a float32 or an integer network on samples x in real units.

    Without `aware` the samples only tell damages, and each weight is rounded to its nearest level.
    """

    def __init__(self, model: bytes, x: Floats, layers: Sequence[Layer], metric: str, aware: bool) -> None:
        self._model = model
        self._x = x
        self._layers = {layer.number: layer for layer in layers}
        self._metric = metric
        self._aware = aware

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_segments", "_begin")}

    @cached_property
    def _segments(self) -> Segments:
        return Segments(tflite.read(self._model))

    @cached_property
    def _begin(self) -> State:
        return self._segments.begin(self._x)

    def options(self, steps: Mapping[int, float], fixed: Mapping[int, Option]) -> dict[int, Option]:
        """What becomes of the layers with steps, where others are as `fixed`."""
        found: dict[int, Option] = {}
        changed: dict[int, Tensor] = {}
        source = now = self._begin
        for number in range(len(self._segments.layers)):
            option = fixed.get(number)
            if number in steps:
                patches = self._patches(number, source), self._patches(number, now)
                option = found[number] = self._rounded(number, steps[number], *patches)
            if option:
                changed |= self._changed(number, option)
            source = self._segments.step(number, source, {})
            now = self._segments.step(number, now, changed)
        return found

    def candidates(self, others: Mapping[int, Sequence[Option]]) -> dict[int, list[Candidate]]:
        """Per layer of `others` its steps and the others, each with the damage that it alone does."""
        found: dict[int, list[Candidate]] = {}
        state = self._begin
        for number in range(max(others) + 1):
            if number in others:
                found[number] = self._candidates(number, state, others[number])
            state = self._segments.step(number, state, {})
        return found

    def _candidates(self, number: int, state: State, others: Sequence[Option]) -> list[Candidate]:
        stride = max(1, len(self._x) // max(FEWEST_INPUTS, len(self._x) // RATING_SHARE))
        few = {index: array[::stride] for index, array in state.items()}
        outputs = self._segments.finish(number, few, {})

        def damage(option: Option) -> float:
            changed = self._changed(number, option)
            return divergence(self._metric, outputs, self._segments.finish(number, few, changed))

        layer = self._layers[number]
        steps, sizes = _sizes(layer)
        bits = 8 * sizes / layer.values.size
        tried = sorted({int(np.argmax(bits <= most)) for most in BITS if bits.min() <= most} or {0})
        patches = self._patches(number, state)
        probes = [self._rounded(number, steps[at], patches, patches) for at in tried]
        rated = _interpolated(steps, steps[tried], np.array([damage(each) for each in probes]))
        shares = np.array([each.size for each in probes]) / sizes[tried]
        sizes *= np.interp(np.log(steps), np.log(steps[tried]), shares)
        figures = sizes.tolist(), rated.tolist(), steps.tolist()
        found = [Candidate(*each) for each in zip(*figures, strict=True)]
        return found + [Candidate(each.size, damage(each), option=each) for each in others]

    def _rounded(self, number: int, step: float, source: Floats | None, now: Floats | None) -> Option:
        layer, weights = self._layers[number], self._segments.layers[number]
        values = gptq.rows(layer.values.astype(np.float64), weights)
        scales = _scales(layer, step)
        steps = scales.astype(np.float64)
        if source is None or now is None:
            rounded = gptq.plain(values, steps)
        else:
            biased = tflite.bias_of(self._segments.model, weights) >= 0
            rounded = gptq.fit(values, steps, source, now, biased=biased)
        return options.gridded(layer, gptq.unrows(rounded.levels, weights), scales, rounded.shift)

    def _changed(self, number: int, option: Option) -> dict[int, Tensor]:
        model, weights = self._segments.model, self._segments.layers[number]
        if model.tensors[weights.tensor].dtype == "float32":
            new = NewWeights(option.values, shift=option.shift)
        else:
            assert option.levels is not None
            new = NewWeights(option.levels, option.scales, option.shift)
        return tflite.changed(model, [weights], {weights.tensor: new})

    def _patches(self, number: int, state: State) -> Floats | None:
        if not self._aware:
            return None
        taken = self._segments.input(number, state)
        return gptq.patches(taken, self._segments.operator(number), self._segments.layers[number])


def _scales(layer: Layer, step: float) -> Floats:
    """The step for all channels; its double, or four times it, where weights are beyond the largest level."""
    common = snapped(np.array([step], np.float32))
    beyond = options.channel_peaks(layer) / (gptq.LARGEST * float(common[0]))
    if layer.one_scale or beyond.max() <= 1:
        return np.array([step], np.float32)
    return np.asarray(common * np.exp2(np.ceil(np.log2(np.maximum(beyond, 1)))), np.float32)


def _sizes(layer: Layer) -> tuple[Doubles, Doubles]:
    """Steps from that of 8 bits in half of the channels up, and the bytes of plainly rounded levels."""
    peaks = options.channel_peaks(layer)
    peak = float(peaks.max()) or 1.0
    usual = peak if layer.one_scale else max(float(np.median(peaks)), peak / MOST_OUTLYING)
    finest = max(usual / gptq.LARGEST, float(layer.least.max()))
    octaves = np.arange(0, OCTAVES + math.log2(peak / usual), 1 / STEPS_PER_OCTAVE)
    steps = finest * np.exp2(octaves)
    steps = steps[steps < 2 * peak] if steps[0] < 2 * peak else steps[:1]
    steps = short(steps.astype(np.float32)).astype(np.float64)
    sizes = np.array([options.nearest(layer, _scales(layer, each)).size for each in steps], np.float64)
    kept = sizes >= min(LEAST_BITS * layer.values.size / 8, sizes[0])
    return steps[kept], sizes[kept]


def _interpolated(steps: Doubles, known: Doubles, damages: Doubles) -> Doubles:
    """Damages at all steps from those at the known ones, on log-log lines.

    Below the finest known one errors grow with the step and damage with their square; above the coarsest
    they go on as between the last two, but no slower.
    """
    x, y = np.log(known), np.log(np.maximum.accumulate(np.maximum(damages, SMALLEST_DAMAGE)))
    slope = max(2.0, float((y[-1] - y[-2]) / (x[-1] - x[-2]))) if len(x) > 1 else 2.0
    far = math.log(1 << OCTAVES)
    x, y = np.array([x[0] - far, *x, x[-1] + far]), np.array([y[0] - 2 * far, *y, y[-1] + slope * far])
    return np.asarray(np.exp(np.interp(np.log(steps), x, y)))
