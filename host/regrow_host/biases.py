"""Bias correction: the layers of a network keep the mean outputs that they have in its source.

Rounded weights and clipped activations move the mean of what a layer gives, and means add up from layer to
layer. Each bias makes up for that, layer by layer on what the corrected layers before it give. Source: Nagel
et al., "Data-Free Quantization through Weight Equalization and Bias Correction", 2019, section 4.2; the means
are those of samples, before the activation function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regrow_host import gptq, tflite
from regrow_host.segments import Segments, State
from regrow_host.tflite import NewWeights, Tensor

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Biases:
    """Calibration samples, (n, *input shape) in real units, and what a source's layers make of them.

    `means` are per layer the mean outputs (channels,); None of a layer that is no plain product of rows.
    """

    samples: Floats
    means: Sequence[Doubles | None]

    @classmethod
    def of(cls, source: bytes, samples: Floats) -> Biases:
        """`source` is a float32 network that can be cut (`segments.divisible`)."""
        segments = Segments(tflite.read(source))
        means = []
        state = segments.begin(samples)
        for number in range(len(segments.layers)):
            means.append(_means(segments, number, state))
            state = segments.step(number, state, {})
        return cls(samples, means)

    def corrected(self, network: bytes) -> bytes:
        """The network, float32 or int8 and of the source's layers, with other biases."""
        segments = Segments(tflite.read(network))
        model, changed = segments.model, dict[int, Tensor]()
        state = segments.begin(self.samples)
        for number, (weights, wanted) in enumerate(zip(segments.layers, self.means, strict=True)):
            found = _means(segments, number, state)
            if wanted is not None and found is not None and tflite.bias_of(model, weights) >= 0:
                same = weights.values if weights.levels is None else weights.levels
                new = NewWeights(same, weights.scales, wanted - found)
                changed |= tflite.changed(model, [weights], {weights.tensor: new})
            state = segments.step(number, state, changed)
        for index, tensor in changed.items():
            model.tensors[index] = tensor
        return tflite.build(model)


def _means(segments: Segments, number: int, state: State) -> Doubles | None:
    """The mean outputs of a layer that takes the state, (channels,)."""
    weights, operator = segments.layers[number], segments.operator(number)
    patches = gptq.patches(segments.input(number, state), operator, weights)
    if patches is None:
        return None
    means = gptq.mean_outputs(gptq.rows(weights.values.astype(np.float64), weights), patches)
    bias = operator.layer_inputs[2]
    return means + segments.model.tensors[bias].real() if bias >= 0 else means
