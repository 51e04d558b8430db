"""A network cut before each of its layers, so that samples go through it layer by layer, by LiteRT.

A layer can then be rounded on the very activations that the rounded layers before it give, and all layers
together cost one inference of every sample.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from regrow import quant

from regrow_host import tflite
from regrow_host.runner import Engine
from regrow_host.tflite import Array, Model, Operator, Subgraph, Tensor

Floats = NDArray[np.float32]
State = dict[int, Array]
"""Per tensor index the activations that later operators take, (n, *shape), as the network has them."""


def divisible(model: Model) -> bool:
    """Whether the network can be cut: it has no state and calls no other subgraph."""
    return len(model.subgraphs) == 1 and not tflite.keeps_state(model)


class Segments:
    """Segment 0 comes before the first layer, segment i + 1 begins with the i-th layer of `layers`."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.layers = tflite.weight_tensors(model)
        self._cuts = [0, *(each.operator for each in self.layers), len(model.operators)]

    def begin(self, x: Floats) -> State:
        """The state before the first layer, for samples (n, *input shape) in real units."""
        index = self.model.inputs[0]
        tensor = self.model.tensors[index]
        stored = x.astype(tensor.dtype)
        if len(tensor.scales):
            scale, zero_point = float(tensor.scales[0]), int(tensor.zero_points[0])
            stored = quant.quantize(x, scale, zero_point, np.dtype(tensor.dtype))
        return self._run(0, 1, {index: stored.reshape(len(x), *tensor.shape)}, {})

    def step(self, number: int, state: State, changed: Mapping[int, Tensor]) -> State:
        """From the state before layer `number` to that before the next one, where tensors have changed."""
        return self._run(number + 1, number + 2, state, changed)

    def finish(self, number: int, state: State, changed: Mapping[int, Tensor]) -> Floats:
        """The outputs in real units, from the state before layer `number`, where tensors have changed."""
        return self.outputs(self._run(number + 1, len(self._cuts) - 1, state, changed))

    def outputs(self, state: State) -> Floats:
        return self._real(state, self.model.outputs[0])

    def operator(self, number: int) -> Operator:
        return self.model.operators[self.layers[number].operator]

    def input(self, number: int, state: State) -> Floats:
        """What the layer takes, (n, *shape without batch), in real units."""
        return self._real(state, self.operator(number).layer_inputs[0])

    def _real(self, state: State, index: int) -> Floats:
        tensor, stored = self.model.tensors[index], state[index]
        if len(tensor.scales):
            stored = quant.dequantize(stored, float(tensor.scales[0]), int(tensor.zero_points[0]))
        shape = tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape
        return np.asarray(stored.reshape(len(stored), *shape), np.float32)

    def _run(self, first: int, end: int, state: State, changed: Mapping[int, Tensor]) -> State:
        """From the state before segment `first` to that before segment `end`."""
        start, stop = self._cuts[first], self._cuts[end]
        operators = self.model.operators[start:stop]
        later = {i for each in self.model.operators[stop:] for i in each.inputs} | set(self.model.outputs)
        kept = {index: array for index, array in state.items() if index in later}
        if not operators:
            return kept
        made = {i for each in operators for i in each.outputs}
        takes = sorted({i for each in operators for i in each.inputs if i in state} - made)
        gives = sorted(made & later)
        tensors = list(self.model.tensors)
        for index, tensor in changed.items():
            tensors[index] = tensor
        graph = Subgraph(tensors, operators, tuple(takes), tuple(gives))
        data = tflite.build(tflite.without_unused_tensors(Model([graph])))
        results = Engine(data).run([state[index] for index in takes])
        return kept | dict(zip(gives, results, strict=True))
