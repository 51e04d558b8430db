"""Per operator of a `.tflite`: the ops of the device graph that stand for it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from regrow.quant import round_half_away

from . import tables, variables
from .slices import resolve
from .tflite import OPERATOR_CODES, Operator
from .varint import varint

if TYPE_CHECKING:
    from .lower import Lowering

LOOKUP = 255
RESHAPE = OPERATOR_CODES["RESHAPE"]
CONCATENATION = OPERATOR_CODES["CONCATENATION"]
STRIDED_SLICE = OPERATOR_CODES["STRIDED_SLICE"]


@dataclass(frozen=True)
class Rule:
    """How an operator with at least `inputs` inputs is lowered: `emit(lowering, operator)` adds its ops."""

    inputs: int
    emit: Callable[[Lowering, Operator], None]
    outputs: int = 1


def _conv(to: Lowering, operator: Operator) -> None:
    options = operator.options
    sizes = (options.strideH, options.strideW, options.dilationHFactor, options.dilationWFactor)
    _layer(to, operator, [*sizes, options.padding, options.fusedActivationFunction])


def _transpose_conv(to: Lowering, operator: Operator) -> None:
    options = operator.options
    _layer(to, operator, [options.strideH, options.strideW, options.padding, options.fusedActivationFunction])


def _fully_connected(to: Lowering, operator: Operator) -> None:
    if operator.options.weightsFormat != 0:
        raise to.refuse("has shuffled weights")
    _layer(to, operator, [operator.options.fusedActivationFunction])


def _layer(to: Lowering, operator: Operator, options: Sequence[int]) -> None:
    source, weights, bias = operator.layer_inputs
    inputs = [to.activation(source), to.filter(weights)]
    if bias >= 0:
        inputs.append(to.bias(bias))
    to.emit(operator.code, inputs, operator.outputs, _bytes(to, options) + to.weight_zero_point(weights))


def _average_pool(to: Lowering, operator: Operator) -> None:
    _pool(to, operator, rounding=b"\1" if to.is_uint8(operator.inputs[0]) else b"")


def _pool(to: Lowering, operator: Operator, rounding: bytes = b"") -> None:
    options = operator.options
    sizes = (options.strideH, options.strideW, options.filterHeight, options.filterWidth)
    numbers = _bytes(to, [*sizes, options.padding, options.fusedActivationFunction])
    to.emit(operator.code, [to.activation(operator.inputs[0])], operator.outputs, numbers + rounding)


def _pairwise(to: Lowering, operator: Operator) -> None:
    a, b = operator.inputs[:2]
    if to.is_constant(a) and to.is_constant(b):
        raise to.refuse("has two constant inputs")
    options = _bytes(to, [operator.options.fusedActivationFunction])
    to.emit(operator.code, [to.operand(a), to.operand(b)], operator.outputs, options)


def _reduce(to: Lowering, operator: Operator) -> None:
    x, axes = operator.inputs[:2]
    resolved = sorted({_axis(to, axis, x) for axis in to.integers(axes)})
    to.emit(operator.code, [to.activation(x)], operator.outputs, bytes([len(resolved), *resolved]))


def _softmax(to: Lowering, operator: Operator) -> None:
    options = struct.pack("<f", operator.options.beta)
    to.emit(operator.code, [to.activation(operator.inputs[0])], operator.outputs, options)


def _arg_max(to: Lowering, operator: Operator) -> None:
    x, axis = operator.inputs[:2]
    options = bytes([_axis(to, to.integers(axis, 1)[0], x)])
    to.emit(operator.code, [to.activation(x)], operator.outputs, options)


def _reshape(to: Lowering, operator: Operator) -> None:
    """The shape stands in the output."""
    to.emit(RESHAPE, [to.activation(operator.inputs[0])], operator.outputs)


def _concatenation(to: Lowering, operator: Operator) -> None:
    """Inputs in other units, which uint8 networks may have, pass a LOOKUP."""
    if operator.options.fusedActivationFunction:
        raise to.refuse("has a fused activation")
    output = operator.outputs[0]
    inputs = []
    for i in operator.inputs:
        if to.is_uint8(i) and not to.same_units(i, output):
            table = tables.concatenated(to.quantized(i), to.quantized(output))
            inputs.append(to.temporary(i, output))
            to.emit_ids(LOOKUP, [to.operand(i), to.table(table)], inputs[-1:], bytes([CONCATENATION]))
        else:
            inputs.append(to.operand(i))
    axis = _axis(to, operator.options.axis, output)
    to.emit(CONCATENATION, inputs, operator.outputs, bytes([axis]))


def _pad(to: Lowering, operator: Operator) -> None:
    x, paddings = operator.inputs[:2]
    to.emit(operator.code, [to.activation(x)], operator.outputs, _varints(to, to.integers(paddings)))


def _transpose(to: Lowering, operator: Operator) -> None:
    x, order = operator.inputs[:2]
    options = bytes(_axis(to, axis, x) for axis in to.integers(order))
    to.emit(operator.code, [to.activation(x)], operator.outputs, options)


def _split(to: Lowering, operator: Operator) -> None:
    _slices_along(to, operator, operator.inputs[1], operator.inputs[0])


def _split_v(to: Lowering, operator: Operator) -> None:
    _slices_along(to, operator, operator.inputs[0], operator.inputs[2])


def _slices_along(to: Lowering, operator: Operator, x: int, axis: int) -> None:
    """One slice per output, one after the other along the axis; their sizes stand in the outputs."""
    along = _axis(to, to.integers(axis, 1)[0], x)
    source, begin = to.activation(x), 0
    for output in operator.outputs:
        slices = [(begin if i == along else 0, 1) for i in range(len(to.shape(x)))]
        to.emit(STRIDED_SLICE, [source], [output], _slices(to, slices))
        begin += to.shape(output)[along] if along < len(to.shape(output)) else 0


def _strided_slice(to: Lowering, operator: Operator) -> None:
    """A slice of the input's rank; axes that are dropped or new are a RESHAPE's."""
    x, output = operator.inputs[0], operator.outputs[0]
    begins, ends, strides = (to.integers(i) for i in operator.inputs[1:4])
    try:
        slices = resolve(to.shape(x), begins, ends, strides, operator.options)
    except ValueError as error:
        raise to.refuse(str(error)) from None
    options = _slices(to, [(each.begin, each.stride) for each in slices])
    shape = tuple(each.count for each in slices)
    if shape == to.shape(output):
        to.emit(STRIDED_SLICE, [to.activation(x)], [output], options)
        return
    part = to.temporary(output, output, shape)
    to.emit_ids(STRIDED_SLICE, [to.activation(x)], [part], options)
    to.emit(RESHAPE, [part], [output])


def _slices(to: Lowering, slices: Iterable[tuple[int, int]]) -> bytes:
    options = b""
    for begin, stride in slices:
        if not -128 <= stride <= 127:
            raise to.refuse("has a stride beyond a byte")
        options += varint(begin) + bytes([stride & 0xFF])
    return options


def _resize(to: Lowering, operator: Operator) -> None:
    x, output = operator.inputs[0], operator.outputs[0]
    before, after = to.shape(x), to.shape(output)
    if len(before) != 4 or len(after) != 4:
        raise to.refuse("resizes something else than an image")
    maps = [
        *resize_map(before[1], after[1], operator.options),
        *resize_map(before[2], after[2], operator.options),
    ]
    to.emit(operator.code, [to.activation(x)], operator.outputs, _varints(to, maps))


def resize_map(given: int, wanted: int, options: Any) -> list[int]:
    """Per output row or column the input's, in the float32 arithmetic of TFLite's kernel."""
    corners = options.alignCorners and wanted > 1
    scale = (
        np.float32(given - 1) / np.float32(wanted - 1) if corners else np.float32(given) / np.float32(wanted)
    )
    half = np.float32(0.5 if options.halfPixelCenters else 0)
    at = (np.arange(wanted, dtype=np.float32) + half) * scale
    nearest = round_half_away(at) if options.alignCorners else np.floor(at)
    return [min(int(i), given - 1) for i in nearest]


def _lookup(to: Lowering, operator: Operator) -> None:
    """The function's table; where it changes nothing, not even the units, the tensors are one."""
    x, output = operator.inputs[0], operator.outputs[0]
    try:
        table = tables.table(operator.name, operator.options, to.quantized(x), to.quantized(output))
    except ValueError as error:
        raise to.refuse(f"cannot be computed: {error}") from None
    if to.same_units(x, output) and (table.view(np.uint8) == np.arange(256)).all() and to.merge(output, x):
        return
    options = bytes([operator.code])
    to.emit(LOOKUP, [to.activation(x), to.table(table)], operator.outputs, options)


def _read_variable(to: Lowering, operator: Operator) -> None:
    """A copy; the variable itself serves where nothing uses the value after it changes."""
    output = operator.outputs[0]
    if variables.outlives_reading(to.model, operator):
        to.ids[output] = to.variable(operator.inputs[0], output)
        return
    to.emit(RESHAPE, [to.variable(operator.inputs[0], output)], [output])


def _assign_variable(to: Lowering, operator: Operator) -> None:
    resource, value = operator.inputs[:2]
    to.emit_ids(RESHAPE, [to.activation(value)], [to.variable(resource, value)])


def _nothing(_: Lowering, __: Operator) -> None:
    """What the operator does is known before the ops run."""


def _axis(to: Lowering, axis: int, tensor: int) -> int:
    rank = len(to.shape(tensor))
    if not -rank <= axis < rank:
        raise to.refuse(f"has the axis {axis} for a tensor of {rank} axes")
    return axis % rank


def _bytes(to: Lowering, values: Sequence[int]) -> bytes:
    if not all(0 <= value <= 255 for value in values):
        raise to.refuse("has a stride, dilation or filter above 255")
    return bytes(values)


def _varints(to: Lowering, values: Sequence[int]) -> bytes:
    if not all(0 <= value < 1 << 31 for value in values):
        raise to.refuse("has a negative or huge number where a size is needed")
    return b"".join(map(varint, values))


OPERATORS: dict[str, Rule] = {
    "ADD": Rule(2, _pairwise),
    "ARG_MAX": Rule(2, _arg_max),
    "ASSIGN_VARIABLE": Rule(2, _assign_variable, outputs=0),
    "AVERAGE_POOL_2D": Rule(1, _average_pool),
    "CALL_ONCE": Rule(0, _nothing, outputs=0),
    "CONCATENATION": Rule(1, _concatenation),
    "CONV_2D": Rule(2, _conv),
    "DEPTHWISE_CONV_2D": Rule(2, _conv),
    "EXPAND_DIMS": Rule(1, _reshape),
    "FULLY_CONNECTED": Rule(2, _fully_connected),
    "MAX_POOL_2D": Rule(1, _pool),
    "MEAN": Rule(2, _reduce),
    "MUL": Rule(2, _pairwise),
    "PAD": Rule(2, _pad),
    "READ_VARIABLE": Rule(1, _read_variable),
    "RESHAPE": Rule(1, _reshape),
    "RESIZE_NEAREST_NEIGHBOR": Rule(2, _resize),
    "SOFTMAX": Rule(1, _softmax),
    "SPLIT": Rule(2, _split),
    "SPLIT_V": Rule(3, _split_v),
    "SQUEEZE": Rule(1, _reshape),
    "STRIDED_SLICE": Rule(4, _strided_slice),
    "SUB": Rule(2, _pairwise),
    "SUM": Rule(2, _reduce),
    "TRANSPOSE": Rule(2, _transpose),
    "TRANSPOSE_CONV": Rule(3, _transpose_conv),
    "VAR_HANDLE": Rule(0, _nothing),
    **{name: Rule(1, _lookup) for name in tables.FUNCTIONS},
}
