"""Cross-layer equalization: channels scaled so that the network computes the same and int8 loses less.

A channel that one layer multiplies and all that take it divide again is as it was, through operators that
are homogeneous by channel. All activations of a tensor count in one unit, so a channel of a small range has
few levels, and each row of weights does, so that an input of small weights has few. Source of the idea:
Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction", 2019, section 4.1;
rows of weights have units of their own here, so the range of activations takes the place of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from ai_edge_litert.schema_py_generated import (  # type: ignore[import-untyped]
    ActivationFunctionType as Activation,
)
from numpy.typing import NDArray

from .tflite import WEIGHT_OPERATORS, Model, Operator, Tensor

Doubles = NDArray[np.float64]
Labels = NDArray[np.int64]
Ties = list[tuple[Labels, Labels]]

ALIKE = {
    *("AVERAGE_POOL_2D", "MAX_POOL_2D", "PAD", "RELU", "RELU6", "LEAKY_RELU", "ADD", "SUB"),
    *("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"),
}
"""Operators that treat each channel by itself and keep its factor."""
FLATTENING = "RESHAPE", "SQUEEZE", "EXPAND_DIMS"
REDUCING = "MEAN", "SUM", "REDUCE_MAX"
HOMOGENEOUS = Activation.NONE, Activation.RELU, Activation.RELU6
SATURATION = 6.0
MARGIN = 1.25
"""By which other samples may exceed the largest values of these before they saturate."""
LARGEST_FACTOR = 1e4
ROUNDS = 4
"""In which the factors of a layer's inputs and its outputs settle on one another."""
TINY = 1e-30


def equalize(model: Model, peaks: Mapping[int, Doubles]) -> Model:
    """The float32 network with other weights and biases; the same where no channel could be scaled.

    `peaks` are per float tensor the largest absolute value in each channel (its last axis) on calibration
    samples. Through a saturation at 6 the network is the same on all samples that stay within these.
    """
    channels = _Channels(model)
    return _scaled(model, channels.labels, channels.factors(peaks))


class _Channels:
    """`labels` give per activation tensor a number for each channel; those of one number have one factor.

    `free` tells per number whether that may be other than 1.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._uses = [i for each in model.operators for i in each.inputs]
        self._count = 0
        self.labels: dict[int, Labels] = {}
        for i in dict.fromkeys([*model.inputs, *(i for each in model.operators for i in each.outputs)]):
            size = model.tensors[i].shape[-1] if model.tensors[i].shape else 1
            self.labels[i] = np.arange(self._count, self._count + size)
            self._count += size
        ties: Ties = []
        fixed = {*model.inputs, *model.outputs}
        for operator in model.operators:
            found = self._layer(operator) if operator.name in WEIGHT_OPERATORS else self._tied(operator)
            if found is None:
                fixed |= {*operator.inputs, *operator.outputs} & set(self.labels)
            else:
                ties += found
        least = _joined(ties, self._count)
        self.labels = {i: least[labels] for i, labels in self.labels.items()}
        self.free = np.ones(self._count, bool)
        for i in fixed:
            self.free[self.labels[i]] = False

    def factors(self, peaks: Mapping[int, Doubles]) -> Doubles:
        """Per number, so that ranges of activations and of the weights that take them have equal shares."""
        most = self._most(peaks)
        peaks = self._possible(peaks)
        known = self.free & (most > 0) & (self._ranges(peaks, np.ones(self._count)) > 0)
        largest = np.clip(most, 1, LARGEST_FACTOR)
        # Tensors that share a channel keep their proportions: the widest has the range that it had.
        groups = _joined([(labels, np.roll(labels, 1)) for labels in self.labels.values()], self._count)
        factors = np.ones(self._count)
        for _ in range(ROUNDS):
            ranges, columns = self._ranges(peaks, factors), self._columns(factors)
            ranges = np.maximum(ranges, TINY)
            balance = np.where(columns > 0, columns / ranges, 1 / np.square(ranges))
            factors = np.where(known, factors * np.sqrt(balance), 1)
            widest = np.zeros(self._count)
            np.maximum.at(widest, groups, self._ranges(peaks, factors, relative=False))
            widest = widest[groups]
            factors = np.where(known & (widest > 0), factors / np.maximum(widest, TINY), 1)
            factors = factors.clip(1 / LARGEST_FACTOR, largest)
        return factors

    def _layer(self, operator: Operator) -> Ties | None:
        """No ties; None where weights serve twice, are no constants, or come in groups."""
        source, weights, bias = operator.layer_inputs
        tensors = self._model.tensors
        constants = [i for i in (weights, bias) if i >= 0]
        if any(self._uses.count(i) > 1 or tensors[i].data is None for i in constants):
            return None
        taken, given = (len(self.labels[i]) for i in (source, operator.outputs[0]))
        shape = tensors[weights].shape
        if operator.name == "DEPTHWISE_CONV_2D":
            fits = shape[-1] == given and given % taken == 0
        else:
            alike = shape[-1] % taken == 0 if operator.name == "FULLY_CONNECTED" else shape[-1] == taken
            fits = alike and shape[0] == given
        return [] if fits and _activation(operator) in HOMOGENEOUS else None

    def _tied(self, operator: Operator) -> Ties | None:
        """The channels that are one; None for operators that do more than that, as far as this knows."""
        output = self.labels[operator.outputs[0]]
        sources = [self.labels[i] for i in operator.inputs if i in self.labels]
        if not sources or _activation(operator) not in HOMOGENEOUS:
            return None
        if operator.name in FLATTENING:
            copies, rest = divmod(len(output), len(sources[0]))
            return None if rest else [(np.tile(sources[0], copies), output)]
        if operator.name == "CONCATENATION":
            joined = np.concatenate(sources)
            return [(joined, output)] if len(joined) == len(output) else None
        if operator.name in REDUCING:
            if not self._keeps_channels(operator):
                return None
        elif operator.name not in ALIKE or not self._scalable(operator):
            return None
        alike = all(len(each) == len(output) for each in sources)
        return [(each, output) for each in sources] if alike else None

    def _keeps_channels(self, operator: Operator) -> bool:
        rank = len(self._model.tensors[operator.inputs[0]].shape)
        axes = self._model.tensors[operator.inputs[1]].data
        return axes is not None and bool(((axes % rank) != rank - 1).all())

    def _scalable(self, operator: Operator) -> bool:
        """Whether the constants that are added can have a factor per channel."""
        if operator.name not in ("ADD", "SUB"):
            return True
        channels = len(self.labels[operator.outputs[0]])
        constants = [i for i in operator.inputs if i not in self.labels]
        return all(
            self._uses.count(i) == 1 and self._model.tensors[i].shape[-1:] == (channels,) for i in constants
        )

    def _possible(self, peaks: Mapping[int, Doubles]) -> Mapping[int, Doubles]:
        """The peaks, where channels that no sample wakes have the most that their weights could give."""
        found = dict(peaks)
        for operator in self._model.operators:
            source, weights, _ = operator.layer_inputs
            output = operator.outputs[0]
            if operator.name not in WEIGHT_OPERATORS or not {source, output} <= set(peaks):
                continue
            values, taken = self._model.tensors[weights].data, found[source]
            if values is None or self._layer(operator) is None:
                continue
            if operator.name == "DEPTHWISE_CONV_2D":
                sums = np.abs(values).reshape(-1, values.shape[-1]).sum(axis=0)
                given = sums * np.repeat(taken, len(sums) // len(taken))
            else:
                given = np.abs(values).reshape(len(values), -1, len(taken)).sum(axis=1) @ taken
            found[output] = np.where(peaks[output] > 0, peaks[output], given)
        return found

    def _most(self, peaks: Mapping[int, Doubles]) -> Doubles:
        """Per number the largest factor that keeps it below saturation; 0 where it is saturated already."""
        found = np.full(self._count, np.inf)
        for operator in self._model.operators:
            if operator.name == "RELU6" or _activation(operator) == Activation.RELU6:
                peak = peaks.get(operator.outputs[0], np.array([SATURATION]))
                most = np.where(peak < SATURATION, SATURATION / np.maximum(MARGIN * peak, TINY), 0)
                np.minimum.at(found, self.labels[operator.outputs[0]], most)
        return found

    def _ranges(self, peaks: Mapping[int, Doubles], factors: Doubles, relative: bool = True) -> Doubles:
        """Per number its largest share of a tensor's range: of that with the factors, or of that without."""
        found = np.zeros(self._count)
        for i, labels in self.labels.items():
            if i in peaks:
                scaled = peaks[i] * factors[labels]
                whole = (scaled if relative else peaks[i]).max(initial=0)
                np.maximum.at(found, labels, scaled / (whole or 1))
        return found

    def _columns(self, factors: Doubles) -> Doubles:
        """Per number its largest share of a row of weights; 0 where depthwise layers alone take it."""
        found = np.zeros(self._count)
        for operator in self._model.operators:
            source, weights, _ = operator.layer_inputs
            if operator.name not in WEIGHT_OPERATORS or operator.name == "DEPTHWISE_CONV_2D":
                continue
            labels = self.labels[source]
            values = self._model.tensors[weights].data
            if values is None or values.shape[-1] % len(labels):
                continue
            rows = np.abs(values.reshape(len(values), -1, len(labels))).max(axis=1) / factors[labels]
            tops = rows.max(axis=1, keepdims=True)
            np.maximum.at(found, labels, (rows / np.where(tops > 0, tops, 1)).max(axis=0))
        return found


def _scaled(model: Model, labels: Mapping[int, Labels], factors: Doubles) -> Model:
    """Each layer divided by the factors of its inputs and multiplied by those of its outputs."""
    tensors = list(model.tensors)
    for operator in model.operators:
        after = factors[labels[operator.outputs[0]]]
        if operator.name in WEIGHT_OPERATORS:
            source, weights, bias = operator.layer_inputs
            before = factors[labels[source]]
            if (before == 1).all() and (after == 1).all():
                continue
            values = tensors[weights].real().astype(np.float64)
            if operator.name == "DEPTHWISE_CONV_2D":
                values *= after / np.repeat(before, len(after) // len(before))
            else:
                rows = values.reshape(len(values), -1, len(before)) / before * after[:, None, None]
                values = rows.reshape(values.shape)
            tensors[weights] = _with(tensors[weights], values)
            if bias >= 0:
                tensors[bias] = _with(tensors[bias], tensors[bias].real() * after)
        elif operator.name in ("ADD", "SUB") and (after != 1).any():
            for i in set(operator.inputs) - set(labels):
                tensors[i] = _with(tensors[i], tensors[i].real() * after)
    return replace(model, subgraphs=[replace(model.subgraphs[0], tensors=tensors), *model.subgraphs[1:]])


def _with(tensor: Tensor, values: Doubles) -> Tensor:
    return replace(tensor, data=values.astype(np.float32), buffer=None)


def _activation(operator: Operator) -> int:
    return int(getattr(operator.options, "fusedActivationFunction", 0) or 0)


def _joined(ties: Ties, count: int) -> Labels:
    """Per number the least of those that it is tied to."""
    least = np.arange(count)
    before = np.full(count, -1)
    while (least != before).any():
        before = least.copy()
        for a, b in ties:
            smaller = np.minimum(least[a], least[b])
            np.minimum.at(least, a, smaller)
            np.minimum.at(least, b, smaller)
        least = least[least]
    return least
