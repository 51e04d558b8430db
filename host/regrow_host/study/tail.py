"""The dense end of a network in numpy, with gradients, so that it can be trained without its source.

The tail begins at the first dense layer that only operators known here follow; LiteRT computes what
comes before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from regrow.errors import InputError

from regrow_host import tflite
from regrow_host.runner import Runner
from regrow_host.tflite import Model, Operator

Floats = NDArray[np.float32]
Key = TypeVar("Key")
Values = dict[int, Floats]
"""By tensor index, samples in front."""

RELU, RELU6 = 1, 3


@dataclass(frozen=True)
class Tail:
    """The operators of the tail, the tensor they begin with and the one they end with (of logits)."""

    model: Model
    operators: list[Operator]
    source: int
    target: int

    @classmethod
    def of(cls, data: bytes) -> "Tail":
        """Raises InputError where the network does not end in dense layers."""
        model = tflite.read(data)
        operators = [each for each in model.operators if each.name not in ("SOFTMAX", "LOGISTIC")]
        start = len(operators)
        while start and _known(model, operators[start - 1]):
            start -= 1
        for place in range(start, len(operators)):
            source = operators[place].inputs[0]
            if operators[place].name == "FULLY_CONNECTED" and _closed(model, operators[place:], source):
                return cls(model, operators[place:], source, operators[-1].outputs[0])
        raise InputError("the network does not end in dense layers that can be trained here")

    @property
    def weights(self) -> list[int]:
        """Tensor indices of the dense layers' weights."""
        return [each.inputs[1] for each in self.operators if each.name == "FULLY_CONNECTED"]

    def parameters(self) -> Values:
        """Weights and biases by tensor index, in the tensors' shapes."""
        found = {}
        for each in self.operators:
            if each.name == "FULLY_CONNECTED":
                for index in each.inputs[1:]:
                    if index >= 0:
                        found[index] = self.model.tensors[index].real().astype(np.float32)
        return found

    def features(self, data: bytes, x: Floats, chunk: int = 64) -> Floats:
        """What the tail takes, (n, features), for inputs of the whole network."""
        if self.source in self.model.inputs:
            return x.reshape(len(x), -1)
        graph = replace(self.model.subgraphs[0], outputs=(self.source,))
        head = Runner(tflite.build(_pruned(replace(self.model, subgraphs=[graph], signatures=[]))))
        parts = [head(x[i : i + chunk]) for i in range(0, len(x), chunk)]
        return np.concatenate(parts).reshape(len(x), -1)

    def forward(self, parameters: Values, features: Floats) -> Values:
        values = {self.source: features}
        for each in self.operators:
            values[each.outputs[0]] = self._forward(each, parameters, values)
        return values

    def backward(self, parameters: Values, values: Values, logits: Floats) -> Values:
        """Gradients of the parameters, from that of the logits."""
        gradients: Values = {self.target: logits}
        found: Values = {}
        for each in reversed(self.operators):
            gradient = gradients.pop(each.outputs[0])
            activation = getattr(each.options, "fusedActivationFunction", 0)
            output = values[each.outputs[0]]
            if activation in (RELU, RELU6) or each.name == "RELU":
                gradient = gradient * (output > 0)
            if activation == RELU6:
                gradient = gradient * (output < 6)
            if each.name == "FULLY_CONNECTED":
                weights = each.inputs[1]
                found[weights] = found.get(weights, 0) + gradient.T @ values[each.inputs[0]]
                if len(each.inputs) > 2 and each.inputs[2] >= 0:
                    found[each.inputs[2]] = gradient.sum(axis=0)
                self._add(gradients, each.inputs[0], gradient @ parameters[weights])
            else:
                for index, other in ((0, -1), (-1, 0)):
                    if index == -1 and len(each.inputs) < 2:
                        break
                    factor = self._operand(each.inputs[other], values) if each.name == "MUL" else 1
                    self._add(gradients, each.inputs[index], gradient * factor)
        return found

    def _add(self, gradients: Values, index: int, gradient: Floats) -> None:
        if index == self.source or self.model.tensors[index].data is not None:
            return
        gradients[index] = gradients[index] + gradient if index in gradients else gradient

    def _operand(self, index: int, values: Values) -> Floats:
        return values[index] if index in values else self.model.tensors[index].real()

    def _forward(self, operator: Operator, parameters: Values, values: Values) -> Floats:
        x = self._operand(operator.inputs[0], values)
        if operator.name == "FULLY_CONNECTED":
            x = x @ parameters[operator.inputs[1]].T
            if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
                x = x + parameters[operator.inputs[2]]
        elif operator.name == "ADD":
            x = x + self._operand(operator.inputs[1], values)
        elif operator.name == "MUL":
            x = x * self._operand(operator.inputs[1], values)
        activation = getattr(operator.options, "fusedActivationFunction", 0)
        if activation in (RELU, RELU6) or operator.name == "RELU":
            x = np.maximum(x, 0)
        return np.minimum(x, 6) if activation == RELU6 else x


KNOWN = "FULLY_CONNECTED", "ADD", "MUL", "RELU", "RESHAPE"
"""A RESHAPE between dense layers changes nothing but a sample's axes of length 1."""


def _known(model: Model, operator: Operator) -> bool:
    activation = getattr(operator.options, "fusedActivationFunction", 0)
    return (
        operator.name in KNOWN
        and activation in (0, RELU, RELU6)
        and len(model.tensors[operator.outputs[0]].shape) <= 2
    )


def _closed(model: Model, operators: list[Operator], source: int) -> bool:
    """Whether the operators need nothing but `source` and constants."""
    made = {source}
    for each in operators:
        if any(i >= 0 and i not in made and model.tensors[i].data is None for i in each.inputs):
            return False
        made.update(each.outputs)
    return True


def _pruned(model: Model) -> Model:
    """The network without the operators that its outputs do not need."""
    graph = model.subgraphs[0]
    needed, kept = set(graph.outputs), []
    for each in reversed(graph.operators):
        if needed.intersection(each.outputs):
            needed.update(each.inputs)
            kept.append(each)
    return tflite.without_unused_tensors(replace(model, subgraphs=[replace(graph, operators=kept[::-1])]))


def cross_entropy(logits: Floats, y: NDArray[np.integer]) -> tuple[float, Floats]:
    """The mean loss in nats and its gradient, for classes y (n,)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    odds = np.exp(shifted)
    p = odds / odds.sum(axis=1, keepdims=True)
    own = np.arange(len(y)), y
    loss = -float(np.log(p[own] + 1e-12).mean())
    p[own] -= 1
    return loss, np.asarray(p / len(y), np.float32)


def squared_error(outputs: Floats, y: Floats) -> tuple[float, Floats]:
    """The mean squared error and its gradient, for targets of the outputs' shape."""
    error = outputs - y
    return float(np.square(error).mean()), np.asarray(2 * error / error.size, np.float32)


class Adam(Generic[Key]):
    """Kingma and Ba, Adam: a method for stochastic optimization, 2015."""

    def __init__(self, parameters: Mapping[Key, Floats]) -> None:
        self._moments = {
            key: (np.zeros_like(value), np.zeros_like(value)) for key, value in parameters.items()
        }
        self._steps = 0

    def step(self, parameters: dict[Key, Floats], gradients: Mapping[Key, Floats], rate: float) -> None:
        """Changes the parameters in place."""
        self._steps += 1
        rate *= np.sqrt(1 - 0.999**self._steps) / (1 - 0.9**self._steps)
        for key, gradient in gradients.items():
            first, second = self._moments[key]
            first += 0.1 * (gradient - first)
            second += 0.001 * (np.square(gradient) - second)
            parameters[key] -= np.float32(rate) * first / (np.sqrt(second) + 1e-8)
