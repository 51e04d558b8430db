"""Lower an int8 `Model` to the device graph, and refuse by name, place and reason what no kernel runs."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from regrow.errors import PackError
from regrow.graph import ACTIVATION, CONSTANT, DTYPES, MAX_RANK, VARIABLE, WEIGHTS, Graph, Node, Op, Tensor
from regrow.kernels import KERNELS

from . import graphfile, limits, planner, tflite, variables
from .operators import OPERATORS
from .tflite import Model, ModelError, Operator, Subgraph, WeightTensor

INT8 = np.dtype(np.int8)
TYPES = ("int8", "uint8", "int32", "int64", "resource")
MAX_OPTIONS = 255


@dataclass(frozen=True)
class Lowered:
    """The device graph of an int8 model, with its arena planned, and the weights it uses."""

    graph: Graph
    weights: list[WeightTensor]


def graph_bytes(lowered: Lowered) -> bytes:
    """The graph part."""
    return graphfile.write(lowered.graph)


def lower(model: Model) -> Lowered:
    """The device graph of an int8 model. Raises ModelError with the first thing that no kernel runs."""
    model = strip_ends(model)
    for index, operator in live(model):
        if operator.name not in OPERATORS:
            name = f"{operator.name} {operator.custom_code}".strip()
            raise ModelError(
                f"boards cannot run operator {index} ({name}): they run {', '.join(sorted(OPERATORS))} only"
            )
    return Lowering(model).result()


class Lowering:
    """Turns operators into ops one after the other, and tensors when they are first met.

    Tensors of the model are meant by their index there, those of the graph by their id.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.weights = tflite.weight_tensors(model)
        self.numbers = {each.tensor: each.number for each in self.weights}
        self.states = variables.find(model)
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []
        self.ids: dict[int, int] = {}
        self.at()

    def result(self) -> Lowered:
        for index, operator in live(self.model):
            self.at(index, operator)
            self._refuse_types(operator)
        self.at()
        inputs = tuple(self.activation(i) for i in self.model.inputs)
        if any(self.tensors[i].shape[:1] != (1,) for i in inputs):
            raise self.refuse("takes a batch of samples at once, boards run batch 1")
        for index, operator in live(self.model):
            self.at(index, operator)
            try:
                OPERATORS[operator.name].emit(self, operator)
            except AttributeError as error:
                raise self.refuse("lacks its options") from error
        self.at()
        outputs = tuple(self.activation(i) for i in self.model.outputs)
        room = sum(tensor.nbytes for tensor in self.tensors)
        graph = Graph(tuple(self.tensors), tuple(self.ops), inputs, outputs, room)
        try:
            graph.check()
        except PackError as error:
            raise ModelError(f"boards cannot run the model: {error}") from error
        return Lowered(planner.plan(graph), self.weights)

    def at(self, index: int = 0, operator: Operator | None = None) -> None:
        """Refusals from here on are about this operator of the model, or about none."""
        which = f"operator {index} ({operator.name})" if operator else "the model"
        self.where = f"boards cannot run {which}: it"

    def refuse(self, reason: str) -> ModelError:
        return ModelError(f"{self.where} {reason}")

    def _refuse_types(self, operator: Operator) -> None:
        """Raise ModelError for an operator that lacks tensors or computes in other types than 8 bits."""
        rule = OPERATORS[operator.name]
        for kind, given, least in (
            ("inputs", operator.inputs, rule.inputs),
            ("outputs", operator.outputs, rule.outputs),
        ):
            if len(given) < least or -1 in given[:least]:
                raise self.refuse(f"has {len(given) - given.count(-1)} {kind}")
        for i in (*operator.inputs, *operator.outputs):
            tensor = self.model.tensors[i]
            if i >= 0 and tensor.data is None and tensor.dtype not in TYPES:
                hint = "; quantize the model to int8 first" if tensor.dtype == "float32" else ""
                raise self.refuse(f"works on {tensor.dtype}, boards run int8 only{hint}")

    def emit(self, code: int, inputs: Sequence[int], outputs: Sequence[int], options: bytes = b"") -> None:
        """Add an op on the ids `inputs` that computes tensors of the model."""
        self.emit_ids(code, inputs, [self.activation(i) for i in outputs], options)

    def emit_ids(
        self, code: int, inputs: Sequence[int], outputs: Sequence[int], options: bytes = b""
    ) -> None:
        if len(options) > MAX_OPTIONS:
            raise self.refuse(f"needs {len(options)} bytes of options, the limit is {MAX_OPTIONS}")
        given = tuple(self.tensors[i].as_levels for i in inputs)
        node = Node(options, given, tuple(self.tensors[i].as_levels for i in outputs))
        try:
            KERNELS[code].check(node)
        except PackError as error:
            raise self.refuse(str(error)) from error
        limits.check(code, node, self.refuse)
        self.ops.append(Op(code, tuple(inputs), tuple(outputs), options))

    def activation(self, index: int) -> int:
        """The id of a tensor that ops compute."""
        if index in self.ids:
            return self.ids[index]
        tensor = self.model.tensors[index] if index >= 0 else None
        if tensor is None or tensor.data is not None or tensor.variable:
            raise self.refuse("takes an input that is missing, constant or a variable")
        if len(tensor.shape) > MAX_RANK or not math.prod(tensor.shape):
            raise self.refuse(
                f"uses tensor {index} ({tensor.name}) of shape {list(tensor.shape)}; "
                f"boards run at most {MAX_RANK} axes and nothing empty"
            )
        if tensor.dtype in ("int32", "int64"):
            return self._add(index, Tensor(ACTIVATION, np.dtype(tensor.dtype), tensor.shape))
        scale, zero_point = self._units(index)
        if tensor.dtype == "uint8" and index in (*self.model.inputs, *self.model.outputs):
            seen = Tensor(ACTIVATION, np.dtype(np.uint8), tensor.shape, scale, zero_point + 128)
            return self._add(index, seen)
        return self._add(index, Tensor(ACTIVATION, INT8, tensor.shape, scale, zero_point))

    def operand(self, index: int) -> int:
        """The id of a tensor that ops compute or of an 8-bit constant."""
        if index in self.ids or not self.is_constant(index):
            return self.activation(index)
        scale, zero_point = self._units(index)
        data = self.model.tensors[index].data
        assert data is not None
        levels = tflite.as_levels(data)
        return self._add(index, Tensor(CONSTANT, INT8, levels.shape, scale, zero_point, data=levels))

    def temporary(self, index: int, like: int, shape: tuple[int, ...] | None = None) -> int:
        """The id of a new activation in the units of `like`, in the shape of `index` unless given."""
        scale, zero_point = self._units(like)
        return self._append(Tensor(ACTIVATION, INT8, shape or self.shape(index), scale, zero_point))

    def table(self, table: NDArray[np.int8]) -> int:
        return self._append(Tensor(CONSTANT, INT8, table.shape, data=table))

    def variable(self, resource: int, like: int) -> int:
        """The id of the state behind a resource, which has the shape and the units of `like`."""
        state = self.states.get(resource)
        if state is None:
            raise self.refuse("uses a variable that nothing in the model declares")
        tensor = self.quantized(like)
        scale, zero_point = self._units(like)
        found = Tensor(VARIABLE, INT8, tensor.shape, scale, zero_point, fill=state.fill(tensor, self.refuse))
        key = -2 - state.number
        if key not in self.ids:
            return self._add(key, found)
        known = self.tensors[self.ids[key]]
        if known != found:
            raise self.refuse(f"uses the variable {state.name} in two shapes, scales or zero points")
        return self.ids[key]

    def merge(self, output: int, x: int) -> bool:
        """Let the output be the very tensor x, unless either is seen from outside."""
        if output in self.model.outputs or self.is_constant(x):
            return False
        self.ids[output] = self.activation(x)
        return True

    def filter(self, index: int) -> int:
        """The id of a filter."""
        if index not in self.numbers:
            raise self.refuse("has weights that are not constant")
        if index in self.ids:
            return self.ids[index]
        tensor = self.model.tensors[index]
        if tensor.dtype not in ("int8", "uint8"):
            raise self.refuse(f"has {tensor.dtype} weights, boards run int8 only")
        symmetric = tensor.dtype == "uint8" or not tensor.zero_points.any()
        if not symmetric or not (tensor.scales > 0).all():
            raise self.refuse("has weights with a zero point other than 0 or with a scale of 0")
        return self._add(index, Tensor(WEIGHTS, INT8, tensor.shape, number=self.numbers[index]))

    def weight_zero_point(self, index: int) -> bytes:
        """The option byte that marks a layer of a uint8 network."""
        zero_point = self.weights[self.numbers[index]].zero_point
        return struct.pack("b", zero_point) if self.is_uint8(index) else b""

    def bias(self, index: int) -> int:
        """The id of a bias; one that serves several layers is repeated."""
        data = self.model.tensors[index].data
        if data is None or data.dtype not in DTYPES:
            raise self.refuse("has a bias that is not constant int32")
        return self._append(Tensor(CONSTANT, data.dtype, data.shape, data=data))

    def integers(self, index: int, count: int | None = None) -> list[int]:
        """The values of a constant of integers."""
        data = self.model.tensors[index].data if index >= 0 else None
        if data is None or data.dtype.kind not in "iu" or count not in (None, data.size):
            raise self.refuse("takes axes, sizes or places that are no constant integers")
        return [int(value) for value in data.reshape(-1)]

    def shape(self, index: int) -> tuple[int, ...]:
        return self.model.tensors[index].shape

    def is_constant(self, index: int) -> bool:
        return index >= 0 and self.model.tensors[index].data is not None

    def is_uint8(self, index: int) -> bool:
        return self.model.tensors[index].dtype == "uint8"

    def quantized(self, index: int) -> tflite.Tensor:
        """The model's tensor, which must be one of 8 bits in one scale."""
        tensor = self.model.tensors[index]
        fits = tensor.dtype in ("int8", "uint8") and len(tensor.scales) == 1 and tensor.scales[0] > 0
        if index < 0 or not fits or not 0 <= tensor.zero_points[0] - np.iinfo(tensor.dtype).min <= 255:
            raise self.refuse(f"uses tensor {index} ({tensor.name}), which is no int8 tensor of one scale")
        return tensor

    def same_units(self, a: int, b: int) -> bool:
        return self._units(a) == self._units(b)

    def _units(self, index: int) -> tuple[float, int]:
        """Scale and zero point of a tensor of 8 bits, as the int8 tensor that ops see."""
        tensor = self.quantized(index)
        return float(tensor.scales[0]), int(tensor.zero_points[0]) - 128 * self.is_uint8(index)

    def _add(self, index: int, tensor: Tensor) -> int:
        self.ids[index] = self._append(tensor)
        return self.ids[index]

    def _append(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1


def live(model: Model) -> list[tuple[int, Operator]]:
    """The operators, with their places, that give something to the outputs or to a variable.

    The others compute the shape of a RESHAPE, which is known, or nothing that anyone needs.
    """
    needed = set(model.outputs)
    found = []
    for index, operator in reversed(list(enumerate(model.operators))):
        if operator.name == "ASSIGN_VARIABLE" or needed.intersection(operator.outputs):
            needed.update(operator.inputs[:1] if operator.name == "RESHAPE" else operator.inputs)
            found.append((index, operator))
    return found[::-1]


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
