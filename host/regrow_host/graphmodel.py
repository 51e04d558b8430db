"""A device graph, with its weights, as a `.tflite` that gives the same integers."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]
from numpy.typing import NDArray
from regrow import graph as device
from regrow.graph import VARIABLE, WEIGHTS, Graph, Op
from regrow.kernels.movement import slices, varints

from . import tables, tflite
from .operators import LOOKUP, resize_map
from .tflite import (
    OPERATOR_CODES,
    OPERATOR_NAMES,
    WEIGHT_OPERATORS,
    Model,
    ModelError,
    Operator,
    Subgraph,
    Tensor,
)

Levels = tuple[NDArray[np.int8], NDArray[np.float32]]

OPTION_BYTES = {
    "AVERAGE_POOL_2D": 6,
    "CONV_2D": 6,
    "DEPTHWISE_CONV_2D": 6,
    "FULLY_CONNECTED": 1,
    "TRANSPOSE_CONV": 4,
}
"""How many there are before those that mark networks that were uint8."""


def to_tflite(graph: Graph, weights: Mapping[int, Levels], name: str = "") -> bytes:
    """A `.tflite` of the graph; `weights` gives per number the levels (any shape) and their scales.

    It is int8 throughout, but for uint8 inputs and outputs, or uint8 if that is what the network was.
    Raises ModelError for a RESIZE_NEAREST_NEIGHBOR that no options describe.
    """
    return tflite.build(_Raising(graph, weights).model(name))


class _Raising:
    """Turns ops into operators one after the other; tensors keep their ids, new ones come behind them."""

    def __init__(self, graph: Graph, weights: Mapping[int, Levels]) -> None:
        self.graph = graph
        self.uint8 = any(_marks(op) for op in graph.ops)
        self.dtype = "uint8" if self.uint8 else "int8"
        self.tensors = [self.tensor(i, tensor, weights) for i, tensor in enumerate(graph.tensors)]
        self.operators: list[Operator] = []
        self.handles: dict[int, int] = {}

    def model(self, name: str) -> Model:
        inputs = tuple(self.end(i, at_input=True) for i in self.graph.inputs)
        calls = self.variables()
        for op in self.graph.ops:
            getattr(self, f"_{_name(op).lower()}")(self.reading(op))
        outputs = tuple(self.end(i, at_input=False) for i in self.graph.outputs)
        network = Subgraph(self.tensors, self.operators, inputs, outputs)
        return Model([network, *calls], description=name)

    def tensor(self, index: int, tensor: device.Tensor, weights: Mapping[int, Levels]) -> Tensor:
        name = f"tensor_{index}"
        if tensor.kind == WEIGHTS:
            levels, scales = weights[tensor.number]
            return self.eight_bits(
                Tensor(name, tensor.shape, "int8", scales, data=levels.reshape(tensor.shape))
            )
        seen = tensor.as_levels
        if not seen.scale:
            return Tensor(name, seen.shape, seen.dtype.name, data=seen.data)
        scales = np.array([seen.scale], np.float32)
        zeros = np.array([seen.zero_point], np.int64)
        return self.eight_bits(Tensor(name, seen.shape, "int8", scales, zeros, data=seen.data))

    def eight_bits(self, tensor: Tensor) -> Tensor:
        """The int8 tensor in the network's type."""
        zeros = tensor.zero_points if len(tensor.zero_points) else np.zeros(len(tensor.scales), np.int64)
        if not self.uint8:
            return replace(tensor, zero_points=zeros)
        data = None if tensor.data is None else tensor.data.view(np.uint8) ^ 0x80
        return replace(tensor, dtype="uint8", zero_points=zeros + 128, data=data)

    def end(self, index: int, at_input: bool) -> int:
        """The input or output of the network: a uint8 one of an int8 network stands behind a QUANTIZE."""
        inner = self.tensors[index]
        if self.graph.tensors[index].dtype != np.uint8 or self.uint8:
            return index
        outer = replace(inner, name=inner.name + "_uint8", dtype="uint8", zero_points=inner.zero_points + 128)
        place = self.add(outer)
        pair = (place, index) if at_input else (index, place)
        self.operator("QUANTIZE", pair[:1], pair[1:], schema.QuantizeOptionsT())
        return place

    def variables(self) -> list[Subgraph]:
        """Handles for the variables, and the subgraph that fills them at the first inference."""
        ids = [i for i, tensor in enumerate(self.graph.tensors) if tensor.kind == VARIABLE]
        if not ids:
            return []
        filling = Subgraph([], [], (), (), "fill")
        self.operator("CALL_ONCE", (), (), schema.CallOnceOptionsT(1))
        for i in ids:
            self.handles[i] = self.add(Tensor(f"variable_{i}", (), "resource"))
            named = schema.VarHandleOptionsT("", f"variable_{i}")
            self.operator("VAR_HANDLE", (), (self.handles[i],), named)
            levels = np.full(self.tensors[i].shape, self.graph.tensors[i].fill, np.uint8).view(np.int8)
            value = replace(self.tensors[i], data=levels.view(np.uint8) ^ 0x80 if self.uint8 else levels)
            place = len(filling.tensors)
            filling.tensors += [Tensor(f"variable_{i}", (), "resource"), value]
            filling.operators += [
                Operator(OPERATOR_CODES["VAR_HANDLE"], (), (place,), named),
                _assignment(place, place + 1),
            ]
        return [filling]

    def reading(self, op: Op) -> Op:
        """The op, its variables read before it."""
        inputs = list(op.inputs)
        for place, i in enumerate(op.inputs):
            if i in self.handles:
                inputs[place] = self.add(replace(self.tensors[i], name=f"value_{len(self.tensors)}"))
                reading = schema.ReadVariableOptionsT()
                self.operator("READ_VARIABLE", (self.handles[i],), (inputs[place],), reading)
        return replace(op, inputs=tuple(inputs))

    def add(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def integers(self, values: Any) -> int:
        data = np.array(values, np.int32)
        return self.add(Tensor(f"integers_{len(self.tensors)}", data.shape, "int32", data=data))

    def operator(self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: Any) -> Operator:
        self.operators.append(Operator(OPERATOR_CODES[name], tuple(inputs), tuple(outputs), options))
        return self.operators[-1]

    def plain(self, op: Op, options: Any, *extra: int) -> None:
        self.operator(_name(op), (*op.inputs, *extra), op.outputs, options)

    def shape(self, index: int) -> tuple[int, ...]:
        return self.tensors[index].shape

    def layer(self, op: Op, options: Any) -> None:
        """What the graph part leaves out: axis and zero point of the weights, scales of the bias."""
        source, filters, *bias = (self.tensors[i] for i in op.inputs)
        filters.axis = WEIGHT_OPERATORS[_name(op)][1] % len(filters.shape)
        filters.zero_points = np.full(len(filters.scales), _zero_point(op) + 128 * self.uint8, np.int64)
        for tensor in bias:
            tensor.scales = source.scales * filters.scales
            tensor.zero_points = np.zeros(len(tensor.scales), np.int64)
        inputs = op.inputs
        if _name(op) == "TRANSPOSE_CONV":
            image, weights, *rest = op.inputs
            inputs = (self.integers(self.shape(op.outputs[0])), weights, image, *rest)
        self.operator(_name(op), inputs, op.outputs, options)

    def _conv_2d(self, op: Op) -> None:
        stride_h, stride_w, dilation_h, dilation_w, padding, activation = op.options[:6]
        self.layer(op, schema.Conv2DOptionsT(padding, stride_w, stride_h, activation, dilation_w, dilation_h))

    def _depthwise_conv_2d(self, op: Op) -> None:
        stride_h, stride_w, dilation_h, dilation_w, padding, activation = op.options[:6]
        multiplier = self.shape(op.inputs[1])[3] // self.shape(op.inputs[0])[3]
        options = schema.DepthwiseConv2DOptionsT(
            padding, stride_w, stride_h, multiplier, activation, dilation_w, dilation_h
        )
        self.layer(op, options)

    def _transpose_conv(self, op: Op) -> None:
        stride_h, stride_w, padding, activation = op.options[:4]
        self.layer(op, schema.TransposeConvOptionsT(padding, stride_w, stride_h, activation))

    def _fully_connected(self, op: Op) -> None:
        keeps_axes = len(self.shape(op.outputs[0])) > 2
        self.layer(op, schema.FullyConnectedOptionsT(op.options[0], 0, keeps_axes))

    def _average_pool_2d(self, op: Op) -> None:
        stride_h, stride_w, filter_h, filter_w, padding, activation = op.options[:6]
        self.plain(op, schema.Pool2DOptionsT(padding, stride_w, stride_h, filter_w, filter_h, activation))

    _max_pool_2d = _average_pool_2d

    def _add(self, op: Op) -> None:
        self.plain(op, schema.AddOptionsT(op.options[0]))

    def _sub(self, op: Op) -> None:
        self.plain(op, schema.SubOptionsT(op.options[0]))

    def _mul(self, op: Op) -> None:
        self.plain(op, schema.MulOptionsT(op.options[0]))

    def _mean(self, op: Op) -> None:
        kept = len(self.shape(op.outputs[0])) == len(self.shape(op.inputs[0]))
        self.plain(op, schema.ReducerOptionsT(kept), self.integers([*op.options[1:]]))

    _sum = _mean

    def _softmax(self, op: Op) -> None:
        self.plain(op, schema.SoftmaxOptionsT(struct.unpack("<f", op.options)[0]))

    def _arg_max(self, op: Op) -> None:
        code = tflite.TYPE_CODES[self.tensors[op.outputs[0]].dtype]
        self.plain(op, schema.ArgMaxOptionsT(code), self.integers(op.options[0]))

    def _reshape(self, op: Op) -> None:
        source, target = op.inputs[0], op.outputs[0]
        if target in self.handles:
            self.operators.append(_assignment(self.handles[target], source))
        else:
            shape = self.integers(self.shape(target))
            self.operator(
                "RESHAPE", (source, shape), (target,), schema.ReshapeOptionsT([*self.shape(target)])
            )

    def _concatenation(self, op: Op) -> None:
        self.plain(op, schema.ConcatenationOptionsT(op.options[0], 0))

    def _pad(self, op: Op) -> None:
        paddings = np.reshape(varints(op.options), (-1, 2))
        self.plain(op, schema.PadOptionsT(), self.integers(paddings))

    def _transpose(self, op: Op) -> None:
        self.plain(op, schema.TransposeOptionsT(), self.integers([*op.options]))

    def _strided_slice(self, op: Op) -> None:
        pairs = slices(op.options)
        ends = [begin + n * step for n, (begin, step) in zip(self.shape(op.outputs[0]), pairs, strict=True)]
        open_ends = sum(1 << i for i, end in enumerate(ends) if end < 0)
        begins, strides = zip(*pairs, strict=True)
        extra = [self.integers(each) for each in (begins, ends, strides)]
        self.plain(op, schema.StridedSliceOptionsT(0, open_ends, 0, 0, 0, False), *extra)

    def _resize_nearest_neighbor(self, op: Op) -> None:
        before, after = self.shape(op.inputs[0])[1:3], self.shape(op.outputs[0])[1:3]
        for corners, half in ((False, False), (True, False), (False, True)):
            options = schema.ResizeNearestNeighborOptionsT(corners, half)
            maps = [i for sizes in zip(before, after, strict=True) for i in resize_map(*sizes, options)]
            if maps == varints(op.options):
                self.plain(op, options, self.integers(after))
                return
        raise ModelError("the graph has a RESIZE_NEAREST_NEIGHBOR that no .tflite describes")

    def _lookup(self, op: Op) -> None:
        """The operator that it stands for, where its table says so; else a GATHER from the table."""
        (source, table), target = op.inputs, op.outputs[0]
        name, levels = OPERATOR_NAMES.get(op.options[0], ""), self.graph.tensors[table].data
        assert levels is not None
        if name in tables.FUNCTIONS and name != "LEAKY_RELU":
            whole = tables.table(name, None, self.tensors[source], self.tensors[target])
            if (whole == levels.view(np.int8)).all():
                self.operator(name, (source,), (target,), _options_of(name))
                return
        place = self.add(Tensor(f"place_{target}", self.shape(source), "int32"))
        given, wanted = tflite.TYPE_CODES[self.dtype], tflite.TYPE_CODES["int32"]
        self.operator("CAST", (source,), (place,), schema.CastOptionsT(given, wanted))
        if not self.uint8:
            moved = self.add(Tensor(f"moved_{target}", self.shape(source), "int32"))
            self.operator("ADD", (place, self.integers([128])), (moved,), schema.AddOptionsT(0))
            place = moved
        values = np.roll(levels.view(np.int8), 128)
        output = self.tensors[target]
        by_place = replace(output, name=f"table_{target}", shape=(256,))
        by_place.data = values.view(np.uint8) ^ 0x80 if self.uint8 else values
        self.operator("GATHER", (self.add(by_place), place), (target,), schema.GatherOptionsT(0, 0))


def _name(op: Op) -> str:
    return "LOOKUP" if op.code == LOOKUP else OPERATOR_NAMES[op.code]


def _marks(op: Op) -> bytes:
    """The option byte that marks networks that were uint8."""
    return op.options[OPTION_BYTES.get(_name(op), len(op.options)) :]


def _zero_point(op: Op) -> int:
    """The zero point of a layer's weights."""
    return int.from_bytes(_marks(op), "little", signed=True)


def _assignment(handle: int, value: int) -> Operator:
    code = OPERATOR_CODES["ASSIGN_VARIABLE"]
    return Operator(code, (handle, value), (), schema.AssignVariableOptionsT())


def _options_of(name: str) -> Any:
    options = {"HARD_SWISH": schema.HardSwishOptionsT, "QUANTIZE": schema.QuantizeOptionsT}
    return options[name]() if name in options else None
