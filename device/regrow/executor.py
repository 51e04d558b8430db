"""The tile executor: integer ops on numpy, the weights grown tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrow.graph import ACTIVATION, VARIABLE, Graph, Tensor
from regrow.kernels import KERNELS
from regrow.kernels.base import WeightSource
from regrow.network import TensorInfo
from regrow.pack import ROLE_GRAPH, ROLE_WEIGHTS, USE_EXECUTOR, Pack
from regrow.weights import Weights

Array = NDArray[Any]

ACTIVATIONS = 1 << 25
"""Bytes of activations that may be alive at one time; more samples run one batch after the other."""


class Executor:
    """Runs a graph; `weights` gives for a weight number the tensor's weights.

    Memory: the activations alive at one time, a tile of weights and a piece of scratch (kernels/base.py).
    Outputs equal TFLite's int8 reference kernels' bit for bit.
    """

    backend = "numpy"

    def __init__(self, graph: Graph, weights: Callable[[int], WeightSource]) -> None:
        self._graph = graph
        self._weights = weights
        self._last_use = _last_uses(graph)
        self._batch = max(1, ACTIVATIONS // _peak(graph, self._last_use))
        self.reset()
        if self._state:  # each sample starts from what the one before it left
            self._batch = 1
        self.inputs = tuple(_info(graph.tensors[i]) for i in graph.inputs)
        self.outputs = tuple(_info(graph.tensors[i]) for i in graph.outputs)

    @classmethod
    def of(cls, pack: Pack) -> Executor:
        """The executor of a pack that stays open; raises PackError where graph and weights disagree."""
        graph = Graph.parse(pack.reader(pack.part(ROLE_GRAPH, USE_EXECUTOR)))

        @cache
        def weights(number: int) -> Weights:
            return Weights(pack.reader(pack.part(ROLE_WEIGHTS, USE_EXECUTOR, number)))

        graph.check_weights(weights)
        return cls(graph, weights)

    def reset(self) -> None:
        """Give the variables the values that they have at load."""
        self._state = {i: _filled(t) for i, t in enumerate(self._graph.tensors) if t.kind == VARIABLE}

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Arrays (samples, *shape) in the inputs' types -> the same of the outputs."""
        samples = len(inputs[0])
        outputs = [np.empty((samples, *info.shape), info.dtype) for info in self.outputs]
        for start in range(0, samples, self._batch):
            batch = slice(start, start + self._batch)
            for whole, part in zip(outputs, self._run([x[batch] for x in inputs]), strict=True):
                whole[batch] = part
        return outputs

    def _run(self, inputs: Sequence[Array]) -> list[Array]:
        alive = {i: _to_levels(x) for i, x in zip(self._graph.inputs, inputs, strict=True)} | self._state
        for i, tensor in enumerate(self._graph.tensors):
            if tensor.data is not None:
                alive[i] = tensor.data[None]
        for step, (op, node) in enumerate(self._graph.nodes()):
            given = [alive.get(i) for i in op.inputs]
            alive.update(zip(op.outputs, KERNELS[op.code].run(node, given, self._weights), strict=True))
            for i in self._last_use[step]:
                del alive[i]
        self._state = {i: alive[i] for i in self._state}
        return [_from_levels(alive[i], self._graph.tensors[i]) for i in self._graph.outputs]


def _to_levels(x: Array) -> Array:
    return (x ^ 0x80).view(np.int8) if x.dtype == np.uint8 else x


def _from_levels(x: Array, tensor: Tensor) -> Array:
    return x.view(np.uint8) ^ 0x80 if tensor.dtype == np.uint8 else x


def _filled(tensor: Tensor) -> Array:
    return np.full((1, tensor.nbytes), tensor.fill, np.uint8).view(tensor.dtype).reshape(1, *tensor.shape)


def _info(tensor: Tensor) -> TensorInfo:
    return TensorInfo(tensor.shape, tensor.dtype, tensor.scale, tensor.zero_point)


def _last_uses(graph: Graph) -> list[list[int]]:
    """Per op the activations that nothing after it uses."""
    last = dict.fromkeys(graph.inputs, 0)
    for step, op in enumerate(graph.ops):
        last.update((i, step) for i in (*op.inputs, *op.outputs))
    uses: list[list[int]] = [[] for _ in graph.ops or [None]]
    for i, step in last.items():
        if i >= 0 and graph.tensors[i].kind == ACTIVATION and i not in graph.outputs:
            uses[step].append(i)
    return uses


def _peak(graph: Graph, last_uses: list[list[int]]) -> int:
    """Bytes of the activations that are alive at one time, a sample."""
    return max(_alive(graph, last_uses), default=1)


def _alive(graph: Graph, last_uses: list[list[int]]) -> Iterator[int]:
    now = sum(graph.tensors[i].nbytes for i in graph.inputs)
    for op, gone in zip(graph.ops, last_uses, strict=False):
        now += sum(graph.tensors[i].nbytes for i in op.outputs)
        yield now
        now -= sum(graph.tensors[i].nbytes for i in gone)
