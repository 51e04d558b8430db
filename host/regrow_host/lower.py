"""Lower an int8 `Model` to the device graph, and refuse by name, place and reason what no kernel runs."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from regrow.errors import PackError
from regrow.graph import ACTIVATION, CONSTANT, DTYPES, MAX_RANK, WEIGHTS, Graph, Node, Op, Tensor
from regrow.kernels import KERNELS

from . import graphfile, planner, tflite
from .tflite import Model, ModelError, Operator, Subgraph, WeightTensor

INT8 = np.dtype(np.int8)
MAX_TERMS = 16384  # products of 8 bits that stay within 30 bits when summed
ADD_RANGE = 1 << 20  # what ADD scales its inputs up by


@dataclass(frozen=True)
class Lowered:
    """The device graph of an int8 model, with its arena planned, and the weights it uses."""

    graph: Graph
    weights: list[WeightTensor]
    biases: dict[int, int]  # tensor id of a bias -> number of the weights whose scales it is in

    def rescaled(self, scales: Mapping[int, NDArray[np.float32]]) -> Graph:
        """The graph for new scales of the weights (by number, 1 or one per channel): biases requantized."""
        tensors = list(self.graph.tensors)
        for i, number in self.biases.items():
            before, bias = self.weights[number].scales, tensors[i].data
            if number in scales and before is not None and bias is not None:
                tensors[i] = replace(tensors[i], data=tflite.requantize_bias(bias, before, scales[number]))
        return replace(self.graph, tensors=tuple(tensors))


def graph_bytes(lowered: Lowered, scales: Mapping[int, NDArray[np.float32]] | None = None) -> bytes:
    """The graph part, for the model's scales of the weights or for new ones (by number).

    Raises ModelError if a bias does not fit 32 bits in the new scales.
    """
    return graphfile.write(lowered.rescaled(scales or {}))


def lower(model: Model) -> Lowered:
    """The device graph of an int8 model. Raises ModelError with the first thing that no kernel runs."""
    model = strip_ends(model)
    for index, operator in enumerate(model.operators):
        _refuse(model, index, operator)
    return _Lowering(model).result()


def _refuse(model: Model, index: int, operator: Operator) -> None:
    """Raise ModelError for an operator that no kernel runs, or that works on other types than int8."""
    if operator.name not in OPTIONS:
        name = f"{operator.name} {operator.custom_code}".strip()
        raise ModelError(
            f"boards cannot run operator {index} ({name}): they run {', '.join(sorted(OPTIONS))} only"
        )
    if len(operator.inputs) < (2 if operator.name in tflite.WEIGHT_OPERATORS else 1):
        raise ModelError(f"{_where(index, operator)} has {len(operator.inputs)} inputs")
    for i in [operator.inputs[0], *operator.outputs]:
        dtype = model.tensors[i].dtype if i >= 0 else "no tensor"
        if dtype != "int8":
            hint = "; quantize the model to int8 first" if dtype == "float32" else ""
            raise ModelError(f"{_where(index, operator)} works on {dtype}, boards run int8 only{hint}")


def _where(index: int, operator: Operator) -> str:
    return f"boards cannot run operator {index} ({operator.name}): it"


class _Lowering:
    """Turns operators into ops one after the other, and tensors when they are first met."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.weights = tflite.weight_tensors(model)
        self.numbers = {each.tensor: each.number for each in self.weights}
        self.tensors: list[Tensor] = []
        self.ids: dict[int, int] = {}
        self.biases: dict[int, int] = {}

    def result(self) -> Lowered:
        inputs = tuple(self.activation(i, "boards cannot run the model: it") for i in self.model.inputs)
        ops = tuple(self.op(index, operator) for index, operator in enumerate(self.model.operators))
        outputs = tuple(self.activation(i, "boards cannot run the model: it") for i in self.model.outputs)
        room = sum(tensor.nbytes for tensor in self.tensors)
        graph = Graph(tuple(self.tensors), ops, inputs, outputs, room)
        try:
            graph.check()
        except PackError as error:
            raise ModelError(f"boards cannot run the model: {error}") from error
        graph = planner.plan(graph)
        return Lowered(graph, self.weights, self.biases)

    def op(self, index: int, operator: Operator) -> Op:
        where = _where(index, operator)
        try:
            options = OPTIONS[operator.name](operator.options, where)
        except AttributeError as error:
            raise ModelError(f"{where} lacks its options") from error
        if operator.name in tflite.WEIGHT_OPERATORS:
            inputs = self.layer_inputs(operator, where)
        elif operator.name == "RESHAPE":  # the shape stands in the output
            inputs = [self.activation(operator.inputs[0], where)]
        else:
            inputs = [self.activation(i, where) for i in operator.inputs]
        outputs = tuple(self.activation(i, where) for i in operator.outputs)
        given = tuple(self.tensors[i] if i >= 0 else None for i in inputs)
        node = Node(options, given, tuple(self.tensors[i] for i in outputs))
        try:
            KERNELS[operator.code].check(node)
        except PackError as error:
            raise ModelError(f"{where} {error}") from error
        _check_limits(operator.name, node, where)
        return Op(operator.code, tuple(inputs), outputs, options)

    def layer_inputs(self, operator: Operator, where: str) -> list[int]:
        source, filters, *bias = operator.inputs
        inputs = [self.activation(source, where), self.filter(filters, where)]
        if bias and bias[0] >= 0:
            inputs.append(self.bias(bias[0], self.numbers[filters], where))
        return inputs

    def activation(self, index: int, where: str) -> int:
        """The id of an int8 tensor that ops compute."""
        if index in self.ids:
            return self.ids[index]
        tensor = self.model.tensors[index] if index >= 0 else None
        if tensor is None or tensor.data is not None or tensor.variable:
            raise ModelError(f"{where} takes an input that is missing, constant or a variable")
        if tensor.dtype != "int8" or len(tensor.scales) != 1 or not tensor.scales[0] > 0:
            raise ModelError(
                f"{where} uses tensor {index} ({tensor.name}), which is no int8 tensor of one scale"
            )
        if len(tensor.shape) > MAX_RANK or tensor.shape[:1] != (1,) or not math.prod(tensor.shape):
            raise ModelError(
                f"{where} uses tensor {index} ({tensor.name}) of shape {list(tensor.shape)}; "
                f"boards run batch 1 and at most {MAX_RANK} axes"
            )
        scale, zero_point = float(tensor.scales[0]), int(tensor.zero_points[0])
        return self.add(index, Tensor(ACTIVATION, INT8, tensor.shape, scale, zero_point))

    def filter(self, index: int, where: str) -> int:
        """The id of a filter."""
        if index not in self.numbers:
            raise ModelError(f"{where} has weights that are not constant")
        if index in self.ids:
            return self.ids[index]
        tensor = self.model.tensors[index]
        if tensor.dtype != "int8":
            raise ModelError(f"{where} has {tensor.dtype} weights, boards run int8 only")
        if tensor.zero_points.any() or not (tensor.scales > 0).all():
            raise ModelError(f"{where} has weights with a zero point other than 0 or with a scale of 0")
        return self.add(index, Tensor(WEIGHTS, INT8, tensor.shape, number=self.numbers[index]))

    def bias(self, index: int, number: int, where: str) -> int:
        """The id of a bias in the scales of these weights; one that serves several layers is repeated."""
        data = self.model.tensors[index].data
        if data is None or data.dtype not in DTYPES:
            raise ModelError(f"{where} has a bias that is not constant int32")
        self.tensors.append(Tensor(CONSTANT, data.dtype, data.shape, data=data))
        self.biases[len(self.tensors) - 1] = number
        return len(self.tensors) - 1

    def add(self, index: int, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        self.ids[index] = len(self.tensors) - 1
        return self.ids[index]


def _check_limits(name: str, node: Node, where: str) -> None:
    """Raise ModelError for what numpy's kernels run but the board's cannot, whose sums have 31 bits."""
    x, *others = (tensor for tensor in node.inputs if tensor is not None)
    output = node.outputs[0]
    if name in tflite.WEIGHT_OPERATORS:
        terms = others[0].size // output.shape[-1]
        if terms > MAX_TERMS:
            raise ModelError(f"{where} has {terms} weights per channel, the limit is {MAX_TERMS}")
    elif name == "ADD":
        if not x.shape == others[0].shape == output.shape:
            raise ModelError(f"{where} adds tensors of different shapes")
        if output.scale < 2 * max(x.scale, others[0].scale) / ADD_RANGE:
            raise ModelError(f"{where} has an output scale far below the scales of its inputs")


def _conv(options: Any, where: str) -> bytes:
    sizes = (options.strideH, options.strideW, options.dilationHFactor, options.dilationWFactor)
    return _bytes([*sizes, options.padding, options.fusedActivationFunction], where)


def _pool(options: Any, where: str) -> bytes:
    sizes = (options.strideH, options.strideW, options.filterHeight, options.filterWidth)
    return _bytes([*sizes, options.padding, options.fusedActivationFunction], where)


def _fully_connected(options: Any, where: str) -> bytes:
    if options.weightsFormat != 0:
        raise ModelError(f"{where} has shuffled weights")
    return _bytes([options.fusedActivationFunction], where)


def _add(options: Any, where: str) -> bytes:
    return _bytes([options.fusedActivationFunction], where)


def _softmax(options: Any, _: str) -> bytes:
    return struct.pack("<f", options.beta)


def _reshape(_: Any, __: str) -> bytes:
    return b""


def _bytes(values: Sequence[int], where: str) -> bytes:
    if not all(0 <= value <= 255 for value in values):
        raise ModelError(f"{where} has a stride, dilation or filter above 255")
    return bytes(values)


OPTIONS: dict[str, Callable[[Any, str], bytes]] = {
    "ADD": _add,
    "AVERAGE_POOL_2D": _pool,
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _conv,
    "FULLY_CONNECTED": _fully_connected,
    "MAX_POOL_2D": _pool,
    "RESHAPE": _reshape,
    "SOFTMAX": _softmax,
}
"""Per operator: its options in the `.tflite` -> the option bytes of the graph part."""


def strip_ends(model: Model) -> Model:
    """Take away the QUANTIZE at float32 inputs and the DEQUANTIZE at float32 outputs.

    The network then takes and gives integers. An end that feeds something else as well stays.
    """
    graph = _strip(model, model.subgraphs[0], "QUANTIZE", at_input=True)
    graph = _strip(model, graph, "DEQUANTIZE", at_input=False)
    if graph is model.subgraphs[0]:
        return model
    return replace(model, subgraphs=[graph, *model.subgraphs[1:]], signatures=[])


def _strip(model: Model, graph: Subgraph, name: str, at_input: bool) -> Subgraph:
    ends = list(graph.inputs if at_input else graph.outputs)
    operators = list(graph.operators)
    for operator in graph.operators:
        if operator.name != name:
            continue
        outer, inner = operator.inputs[0], operator.outputs[0]
        if not at_input:
            outer, inner = inner, outer
        users = [op for op in operators if outer in op.inputs or outer in op.outputs]
        if outer in ends and users == [operator] and model.tensors[outer].dtype == "float32":
            ends[ends.index(outer)] = inner
            operators.remove(operator)
    if len(operators) == len(graph.operators):
        return graph
    inputs, outputs = (tuple(ends), graph.outputs) if at_input else (graph.inputs, tuple(ends))
    return replace(graph, operators=operators, inputs=inputs, outputs=outputs)
