"""Write a device graph: as a graph part (docs/pack-format.md), or with its weights as a `.tflite`."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]
from numpy.typing import NDArray
from regrow import graph as device
from regrow.graph import DTYPES, VARIABLE, WEIGHTS, Graph

from . import tflite
from .tflite import OPERATOR_NAMES, WEIGHT_OPERATORS, Model, Operator, Subgraph
from .varint import varint

Levels = tuple[NDArray[np.int8], NDArray[np.float32]]


def write(graph: Graph) -> bytes:
    """The bytes of the graph part."""
    head = [len(graph.tensors), len(graph.ops), len(graph.inputs), len(graph.outputs)]
    numbers = [*head, *graph.inputs, *graph.outputs, graph.arena]
    tensors, ops = map(_tensor, graph.tensors), map(_op, graph.ops)
    return bytes([device.FORM]) + _varints(numbers) + b"".join(tensors) + b"".join(ops)


def _tensor(tensor: device.Tensor) -> bytes:
    head = bytes([tensor.kind, DTYPES.index(tensor.dtype), len(tensor.shape)]) + _varints(tensor.shape)
    if tensor.kind == WEIGHTS:
        return head + varint(tensor.number)
    head += struct.pack("<fh", tensor.scale, tensor.zero_point)
    if tensor.data is None:
        fill = bytes([tensor.fill]) if tensor.kind == VARIABLE else b""
        return head + varint(tensor.offset) + fill
    data = tensor.data.astype(tensor.dtype.newbyteorder("<")).tobytes()
    return head + bytes([device.PLAIN]) + varint(len(data)) + data


def _op(op: device.Op) -> bytes:
    tensors = [bytes([len(ids)]) + _varints([i + 1 for i in ids]) for ids in (op.inputs, op.outputs)]
    return bytes([op.code]) + b"".join(tensors) + bytes([len(op.options)]) + op.options


def _varints(values: list[int] | tuple[int, ...]) -> bytes:
    return b"".join(map(varint, values))


def to_tflite(graph: Graph, weights: Mapping[int, Levels], name: str = "") -> bytes:
    """An int8 `.tflite` of the graph; `weights` gives per number the levels (any shape) and their scales."""
    model = Model([Subgraph([], [], graph.inputs, graph.outputs)], description=name)
    for i, tensor in enumerate(graph.tensors):
        model.tensors.append(_model_tensor(f"tensor_{i}", tensor, weights))
    for op in graph.ops:
        operator = Operator(op.code, op.inputs, op.outputs, OPTIONS[OPERATOR_NAMES[op.code]](op.options))
        model.operators.append(operator)
        if operator.name in WEIGHT_OPERATORS:
            _finish_layer(model, operator)
        elif operator.name == "RESHAPE":
            _finish_reshape(model, operator)
    return tflite.build(model)


def _model_tensor(name: str, tensor: device.Tensor, weights: Mapping[int, Levels]) -> tflite.Tensor:
    result = tflite.Tensor(name, tensor.shape, tensor.dtype.name, data=tensor.data)
    if tensor.kind == WEIGHTS:
        levels, scales = weights[tensor.number]
        result.data = levels.reshape(tensor.shape)
        _quantize(result, scales)
    elif tensor.scale:
        _quantize(result, np.array([tensor.scale], np.float32), tensor.zero_point)
    return result


def _quantize(tensor: tflite.Tensor, scales: NDArray[np.float32], zero_point: int = 0) -> None:
    tensor.scales, tensor.zero_points = scales, np.full(len(scales), zero_point, np.int64)


def _finish_layer(model: Model, operator: Operator) -> None:
    """What the graph part leaves out: axis of the filter, scales of the bias, options given by shapes."""
    source, filters, *bias = (model.tensors[i] for i in operator.inputs)
    filters.axis = WEIGHT_OPERATORS[operator.name][1] % len(filters.shape)
    for tensor in bias:
        _quantize(tensor, source.scales * filters.scales)
    if operator.name == "DEPTHWISE_CONV_2D":
        operator.options.depthMultiplier = filters.shape[3] // source.shape[3]
    if operator.name == "FULLY_CONNECTED":
        operator.options.keepNumDims = len(model.tensors[operator.outputs[0]].shape) > 2


def _finish_reshape(model: Model, operator: Operator) -> None:
    shape = np.array(model.tensors[operator.outputs[0]].shape, np.int32)
    model.tensors.append(tflite.Tensor(f"shape_{len(model.tensors)}", shape.shape, "int32", data=shape))
    operator.inputs = (*operator.inputs, len(model.tensors) - 1)
    operator.options.newShape = shape.tolist()


def _conv(options: bytes) -> Any:
    stride_h, stride_w, dilation_h, dilation_w, padding, activation = options
    return schema.Conv2DOptionsT(padding, stride_w, stride_h, activation, dilation_w, dilation_h)


def _depthwise(options: bytes) -> Any:
    stride_h, stride_w, dilation_h, dilation_w, padding, activation = options
    return schema.DepthwiseConv2DOptionsT(padding, stride_w, stride_h, 1, activation, dilation_w, dilation_h)


def _pool(options: bytes) -> Any:
    stride_h, stride_w, filter_h, filter_w, padding, activation = options
    return schema.Pool2DOptionsT(padding, stride_w, stride_h, filter_w, filter_h, activation)


OPTIONS: dict[str, Callable[[bytes], Any]] = {
    "ADD": lambda options: schema.AddOptionsT(options[0]),
    "AVERAGE_POOL_2D": _pool,
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": lambda options: schema.FullyConnectedOptionsT(options[0]),
    "MAX_POOL_2D": _pool,
    "RESHAPE": lambda _: schema.ReshapeOptionsT(),
    "SOFTMAX": lambda options: schema.SoftmaxOptionsT(struct.unpack("<f", options)[0]),
}
"""Per operator: the option bytes of the graph part -> its options in a `.tflite`."""
