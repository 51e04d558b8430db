"""Read a `.tflite` file into a `Model` and write one.

The format is TensorFlow Lite's schema.fbs (tensorflow/compiler/mlir/lite/schema in TensorFlow's repository).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]
from numpy.typing import NDArray
from regrow.errors import RegrowError

Array = NDArray[Any]

IDENTIFIER = b"TFL3"
BUFFER_ALIGNMENT = 16  # schema.fbs: `data:[ubyte] (force_align: 16)`

TYPE_NAMES: dict[int, str] = {
    code: name.lower() for name, code in vars(schema.TensorType).items() if name[0] != "_"
}
TYPE_CODES = {name: code for code, name in TYPE_NAMES.items()}
OPERATOR_NAMES: dict[int, str] = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if name[0] != "_"
}
OPERATOR_CODES = {name: code for code, name in OPERATOR_NAMES.items()}
NUMPY_TYPES = {
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128", "bool"),
}

# The input that holds the weights, the axis of their channels and the kind of layer.
WEIGHT_OPERATORS: dict[str, tuple[int, int, Kind]] = {
    "CONV_2D": (1, 0, "conv"),
    "DEPTHWISE_CONV_2D": (1, -1, "depthwise"),
    "FULLY_CONNECTED": (1, 0, "dense"),
    "TRANSPOSE_CONV": (1, 0, "conv"),
}

# How many inputs the operators that this module looks into must have.
INPUTS = {OPERATOR_CODES[name]: 2 for name in WEIGHT_OPERATORS} | {
    OPERATOR_CODES["TRANSPOSE_CONV"]: 3,
    OPERATOR_CODES["QUANTIZE"]: 1,
    OPERATOR_CODES["DEQUANTIZE"]: 1,
}

Kind = Literal["dense", "conv", "depthwise"]
Precision = Literal["float32", "float16", "dynamic", "int8", "other"]


class ModelError(RegrowError):
    """A `.tflite` file that is damaged or that regrow cannot work with."""


@dataclass
class Tensor:
    """One tensor. `scales` is empty when it is not quantized; `data` is None when it is not constant.

    `data` has the dtype and shape of the tensor; types numpy lacks (int4, string) are flat uint8 bytes.
    `buffer` is (offset, bytes) of the data in the file the tensor was read from.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    zero_points: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    axis: int = 0
    data: Array | None = None
    buffer: tuple[int, int] | None = None
    variable: bool = False
    shape_signature: tuple[int, ...] = ()

    def real(self) -> NDArray[np.float32]:
        """The constant's values in real units, float32, in the tensor's shape."""
        if self.data is None:
            raise ModelError(f"tensor {self.name!r} is not constant, so it has no values to read")
        if not len(self.scales):
            return self.data.astype(np.float32)
        along = [1] * len(self.shape)
        if len(self.scales) > 1:
            along[self.axis] = len(self.scales)
        centred = self.data.astype(np.int64) - self.zero_points.reshape(along)
        return (centred * self.scales.astype(np.float64).reshape(along)).astype(np.float32)


@dataclass
class Operator:
    """One operator: `code` and `name` of the builtin (or CUSTOM), tensor indices (-1 absent), options."""

    code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any = None  # an object of the schema, such as Conv2DOptionsT
    version: int = 1
    custom_code: str = ""
    custom_options: bytes = b""
    intermediates: tuple[int, ...] = ()
    mutating_inputs: tuple[bool, ...] = ()

    @property
    def name(self) -> str:
        return OPERATOR_NAMES.get(self.code, f"operator {self.code}")

    @property
    def layer_inputs(self) -> tuple[int, int, int]:
        """Of a layer: the tensors that it takes, its weights and its bias (-1 without one)."""
        places = (2, 1, 3) if self.name == "TRANSPOSE_CONV" else (0, 1, 2)
        source, weights, bias = (self.inputs[i] if i < len(self.inputs) else -1 for i in places)
        return source, weights, bias


@dataclass
class Subgraph:
    tensors: list[Tensor]
    operators: list[Operator]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    name: str = ""


@dataclass
class Signature:
    key: str
    subgraph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


@dataclass
class Model:
    """A `.tflite` file. The network is subgraph 0, the others are called by its operators."""

    subgraphs: list[Subgraph]
    description: str = ""
    signatures: list[Signature] = field(default_factory=list)
    metadata: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def tensors(self) -> list[Tensor]:
        return self.subgraphs[0].tensors

    @property
    def operators(self) -> list[Operator]:
        return self.subgraphs[0].operators

    @property
    def inputs(self) -> tuple[int, ...]:
        return self.subgraphs[0].inputs

    @property
    def outputs(self) -> tuple[int, ...]:
        return self.subgraphs[0].outputs


@dataclass
class WeightTensor:
    """The weights of a layer; weight i, in the tensor's order, belongs to channel (i // inner) % channels."""

    number: int
    tensor: int
    operator: int
    name: str
    kind: Kind
    shape: tuple[int, ...]
    axis: int
    channels: int
    inner: int
    values: NDArray[np.float32]  # real units, in the tensor's shape
    levels: NDArray[np.int8] | None  # of a quantized tensor
    scales: NDArray[np.float32] | None  # of a quantized tensor: 1 or `channels`
    zero_point: int = 0  # of the levels; other than 0 in uint8 networks only

    @property
    def count(self) -> int:
        return int(self.values.size)


def read(data: bytes) -> Model:
    """Parse a `.tflite` file. Raises ModelError if it is none, is damaged or has unknown parts."""
    if data[4:8] != IDENTIFIER:
        raise ModelError("this is not a .tflite file (the identifier TFL3 is missing)")
    try:
        return _Reader(data).model()
    except (struct.error, ValueError, TypeError, IndexError, OverflowError, AttributeError) as error:
        raise ModelError("the .tflite file is damaged or truncated") from error


class _Reader:
    """Walks the flatbuffer field by field.

    A damaged or hostile file may refer to the same bytes over and over; `charge` bounds the work by a
    multiple of the file's size, which no honest file comes near.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.left = 16 * len(data)
        self.root = schema.Model.GetRootAs(data)

    def charge(self, count: int) -> int:
        self.left -= count + 1
        if self.left < 0:
            raise ModelError("the .tflite file is damaged: its parts refer to each other without end")
        return count

    def model(self) -> Model:
        root = self.root
        self.codes = [
            self.operator_code(root.OperatorCodes(i)) for i in self.indices(root.OperatorCodesLength())
        ]
        self.buffers = [self.buffer(root.Buffers(i)) for i in self.indices(root.BuffersLength())]
        subgraphs = [self.subgraph(root.Subgraphs(i)) for i in self.indices(root.SubgraphsLength())]
        if not subgraphs:
            raise ModelError("the .tflite file holds no network")
        signatures = [self.signature(root.SignatureDefs(i)) for i in self.indices(root.SignatureDefsLength())]
        metadata = [root.Metadata(i) for i in self.indices(root.MetadataLength())]
        return Model(
            subgraphs,
            self.text(root.Description()),
            signatures,
            [(self.text(entry.Name()), self.bytes_of(entry.Buffer())) for entry in metadata],
        )

    def indices(self, length: int) -> range:
        return range(self.charge(int(length)))

    def text(self, value: bytes | None) -> str:
        self.charge(len(value or b""))
        return (value or b"").decode("utf-8", errors="replace")

    def integers(self, length: int, values: Any) -> tuple[int, ...]:
        return tuple(values().tolist()) if self.charge(int(length)) else ()

    def operator_code(self, code: Any) -> tuple[int, str, int]:
        # Codes up to 127 stand in the older one-byte field.
        number = max(int(code.BuiltinCode()), int(code.DeprecatedBuiltinCode()))
        return number, self.text(code.CustomCode()), int(code.Version())

    def buffer(self, buffer: Any) -> tuple[int, int]:
        """Offset and size of a buffer's data, which stand in the flatbuffer or, with an Offset, behind it."""
        offset, length = int(buffer.Offset()), int(buffer.Size())
        if offset <= 1:
            length = int(buffer.DataLength())
            table = buffer._tab
            offset = int(table.Vector(table.Offset(4))) if length else 0
        if offset + length > len(self.data):
            raise ModelError("the .tflite file is damaged or truncated")
        return offset, length

    def bytes_of(self, index: int) -> bytes:
        offset, length = self.buffers[index]
        return self.data[offset : offset + self.charge(length)]

    def signature(self, signature: Any) -> Signature:
        inputs = [signature.Inputs(i) for i in self.indices(signature.InputsLength())]
        outputs = [signature.Outputs(i) for i in self.indices(signature.OutputsLength())]
        return Signature(
            self.text(signature.SignatureKey()),
            int(signature.SubgraphIndex()),
            {self.text(each.Name()): int(each.TensorIndex()) for each in inputs},
            {self.text(each.Name()): int(each.TensorIndex()) for each in outputs},
        )

    def subgraph(self, graph: Any) -> Subgraph:
        tensors = [self.tensor(i, graph.Tensors(i)) for i in self.indices(graph.TensorsLength())]
        operators = [self.operator(graph.Operators(i)) for i in self.indices(graph.OperatorsLength())]
        inputs = self.integers(graph.InputsLength(), graph.InputsAsNumpy)
        outputs = self.integers(graph.OutputsLength(), graph.OutputsAsNumpy)
        used = [*inputs, *outputs]
        for operator in operators:
            used += [index for index in operator.inputs + operator.intermediates if index != -1]
            used += operator.outputs
        if any(not 0 <= index < len(tensors) for index in used):
            raise ModelError("the .tflite file is damaged: it uses a tensor that it does not have")
        return Subgraph(tensors, operators, inputs, outputs, self.text(graph.Name()))

    def tensor(self, index: int, tensor: Any) -> Tensor:
        name = self.text(tensor.Name())
        if tensor.Sparsity() is not None or tensor.VariantTensorsLength() or tensor.ExternalBuffer():
            raise ModelError(
                f"tensor {index} ({name}) is stored sparse or outside the file, which regrow does not read"
            )
        shape = self.integers(tensor.ShapeLength(), tensor.ShapeAsNumpy)
        if any(size < 0 for size in shape):
            raise ModelError(f"tensor {index} ({name}) has the impossible shape {list(shape)}")
        dtype = TYPE_NAMES.get(tensor.Type())
        if dtype is None:
            raise ModelError(f"tensor {index} ({name}) has the unknown type {tensor.Type()}")
        offset, length = self.buffers[tensor.Buffer()]
        result = Tensor(
            name,
            shape,
            dtype,
            data=self.constant(f"tensor {index} ({name})", dtype, shape, offset, length) if length else None,
            buffer=(offset, length) if length else None,
            variable=bool(tensor.IsVariable()),
            shape_signature=self.integers(tensor.ShapeSignatureLength(), tensor.ShapeSignatureAsNumpy),
        )
        if tensor.Quantization() is not None:
            self.quantization(f"tensor {index} ({name})", result, tensor.Quantization())
        return result

    def constant(self, what: str, dtype: str, shape: tuple[int, ...], offset: int, length: int) -> Array:
        self.charge(length)
        if dtype not in NUMPY_TYPES:
            return np.frombuffer(self.data, np.uint8, length, offset)
        kind = np.dtype(dtype).newbyteorder("<")
        expected = math.prod(shape) * kind.itemsize
        if expected != length:
            raise ModelError(
                f"{what} is damaged: its shape {list(shape)} needs {expected} bytes, it has {length}"
            )
        return np.frombuffer(self.data, kind, math.prod(shape), offset).reshape(shape)

    def quantization(self, what: str, tensor: Tensor, quantization: Any) -> None:
        if quantization.DetailsType():
            raise ModelError(
                f"{what} is quantized block by block or by custom rules, which regrow does not know"
            )
        scales = quantization.ScaleLength()
        if not scales:
            return
        tensor.scales = np.array(self.integers(scales, quantization.ScaleAsNumpy), np.float32)
        zeros = self.integers(quantization.ZeroPointLength(), quantization.ZeroPointAsNumpy)
        tensor.zero_points = np.array(zeros or [0] * scales, np.int64)
        tensor.axis = int(quantization.QuantizedDimension())
        if not (np.isfinite(tensor.scales).all() and (tensor.scales >= 0).all()):
            raise ModelError(f"{what} is damaged: a scale is negative or no number")
        if len(tensor.zero_points) == 1:
            tensor.zero_points = np.repeat(tensor.zero_points, scales)
        per_axis = tensor.shape[tensor.axis] if 0 <= tensor.axis < len(tensor.shape) else 1
        if len(tensor.zero_points) != scales or scales not in (1, per_axis):
            raise ModelError(f"{what} is damaged: {scales} scales do not fit its shape {list(tensor.shape)}")

    def operator(self, operator: Any) -> Operator:
        code, custom_code, version = self.codes[operator.OpcodeIndex()]
        if operator.BuiltinOptions2Type() or operator.LargeCustomOptionsSize():
            name = OPERATOR_NAMES.get(code, str(code))
            raise ModelError(f"operator {name} has options of a form that regrow does not read")
        inputs = self.integers(operator.InputsLength(), operator.InputsAsNumpy)
        outputs = self.integers(operator.OutputsLength(), operator.OutputsAsNumpy)
        needed = INPUTS.get(code, 0)
        if needed and (len(inputs) < needed or -1 in inputs[:needed] or not outputs):
            raise ModelError(f"the .tflite file is damaged: operator {OPERATOR_NAMES[code]} lacks tensors")
        custom = self.integers(operator.CustomOptionsLength(), operator.CustomOptionsAsNumpy)
        mutating = self.integers(
            operator.MutatingVariableInputsLength(), operator.MutatingVariableInputsAsNumpy
        )
        return Operator(
            code,
            inputs,
            outputs,
            self.options(operator),
            version,
            custom_code,
            bytes(custom),
            self.integers(operator.IntermediatesLength(), operator.IntermediatesAsNumpy),
            tuple(map(bool, mutating)),
        )

    def options(self, operator: Any) -> Any:
        if operator.BuiltinOptions() is None:
            return None
        options = schema.BuiltinOptionsCreator(operator.BuiltinOptionsType(), operator.BuiltinOptions())
        self.charge(sum(len(value) for value in vars(options).values() if hasattr(value, "__len__")))
        return options


def build(model: Model) -> bytes:
    """The bytes of a `.tflite` file. Every constant tensor gets a buffer of its own."""
    buffers = [_Buffer(b"")]  # buffer 0 is the empty one, by the schema's convention
    codes: dict[tuple[int, str, int], int] = {}
    packed = schema.ModelT(version=3, description=model.description, buffers=buffers)
    packed.subgraphs = [_pack_subgraph(graph, buffers, codes) for graph in model.subgraphs]
    packed.operatorCodes = [
        schema.OperatorCodeT(min(code, 127), custom_code or None, version, code)
        for code, custom_code, version in codes
    ]
    packed.metadata = [schema.MetadataT(name, _add_buffer(buffers, data)) for name, data in model.metadata]
    packed.signatureDefs = [
        schema.SignatureDefT(_pack_map(each.inputs), _pack_map(each.outputs), each.key, each.subgraph)
        for each in model.signatures
    ]
    builder = flatbuffers.Builder(1024 + sum(len(buffer.data) + 256 for buffer in buffers))
    builder.Finish(packed.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


class _Buffer(schema.BufferT):  # type: ignore[misc]
    """A buffer whose data is aligned as the schema asks; the generated `Pack` aligns it by one byte only."""

    def Pack(self, builder: Any) -> int:  # noqa: N802
        if len(self.data):
            builder.StartVector(1, len(self.data), BUFFER_ALIGNMENT)
            builder.head -= len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
            data = builder.EndVector()
        schema.BufferStart(builder)
        if len(self.data):
            schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


def _add_buffer(buffers: list[_Buffer], data: bytes) -> int:
    buffers.append(_Buffer(data))
    return len(buffers) - 1


def _pack_subgraph(graph: Subgraph, buffers: list[_Buffer], codes: dict[tuple[int, str, int], int]) -> Any:
    return schema.SubGraphT(
        tensors=[_pack_tensor(tensor, buffers) for tensor in graph.tensors],
        inputs=list(graph.inputs),
        outputs=list(graph.outputs),
        operators=[_pack_operator(operator, codes) for operator in graph.operators],
        name=graph.name or None,
    )


def _pack_tensor(tensor: Tensor, buffers: list[_Buffer]) -> Any:
    quantization = None
    if len(tensor.scales):
        quantization = schema.QuantizationParametersT(
            scale=np.asarray(tensor.scales, "<f4"),
            zeroPoint=np.asarray(tensor.zero_points, "<i8"),
            quantizedDimension=tensor.axis,
        )
    return schema.TensorT(
        shape=list(tensor.shape),
        type=TYPE_CODES[tensor.dtype],
        buffer=0 if tensor.data is None else _add_buffer(buffers, _little_endian(tensor.data)),
        name=tensor.name,
        quantization=quantization,
        isVariable=tensor.variable,
        shapeSignature=list(tensor.shape_signature) or None,
        hasRank=True,
    )


def _little_endian(data: Array) -> bytes:
    return data.astype(data.dtype.newbyteorder("<"), copy=False).tobytes()


def _pack_operator(operator: Operator, codes: dict[tuple[int, str, int], int]) -> Any:
    code = (operator.code, operator.custom_code, operator.version)
    options_type = 0
    if operator.options is not None:
        options_type = getattr(schema.BuiltinOptions, type(operator.options).__name__.removesuffix("T"))
    return schema.OperatorT(
        opcodeIndex=codes.setdefault(code, len(codes)),
        inputs=list(operator.inputs),
        outputs=list(operator.outputs),
        builtinOptionsType=options_type,
        builtinOptions=operator.options,
        customOptions=list(operator.custom_options) or None,
        mutatingVariableInputs=list(operator.mutating_inputs) or None,
        intermediates=list(operator.intermediates) or None,
    )


def _pack_map(tensors: dict[str, int]) -> list[Any]:
    return [schema.TensorMapT(name, index) for name, index in tensors.items()]


def weight_tensors(model: Model) -> list[WeightTensor]:
    """The weights of the network's layers, numbered from 0 in the order in which the network uses them.

    Weights are the constant filters of CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED: float32, int8, or
    float16 behind a DEQUANTIZE (then `tensor` is the float16 tensor). Raises ModelError for other types.
    """
    folded = _folded(model)
    found: dict[int, WeightTensor] = {}
    for position, operator in enumerate(model.operators):
        index, kind, axis = _weights_of(operator)
        index = folded.get(index, index)
        if index < 0 or index in found or model.tensors[index].data is None:
            continue
        tensor = model.tensors[index]
        if len(tensor.shape) >= 2:
            found[index] = _weight_tensor(tensor, kind, axis, (len(found), index, position))
    return list(found.values())


def _weights_of(operator: Operator) -> tuple[int, Kind, int]:
    """Tensor index (-1 if the operator has no weights), kind and channel axis of an operator's weights."""
    position, axis, kind = WEIGHT_OPERATORS.get(operator.name, (len(operator.inputs), 0, "dense"))
    return (operator.inputs[position] if position < len(operator.inputs) else -1), kind, axis


def _weight_tensor(tensor: Tensor, kind: Kind, axis: int, place: tuple[int, int, int]) -> WeightTensor:
    number, index, position = place
    if tensor.dtype not in ("float32", "float16", "int8", "uint8") or tensor.data is None:
        raise ModelError(
            f"tensor {index} ({tensor.name}) has {tensor.dtype} weights, which regrow cannot compress"
        )
    quantized = tensor.dtype in ("int8", "uint8")
    if quantized and not len(tensor.scales):
        raise ModelError(f"tensor {index} ({tensor.name}) has {tensor.dtype} weights without a scale")
    if tensor.dtype == "uint8" and not (len(tensor.scales) == 1 and 0 <= tensor.zero_points[0] <= 255):
        raise ModelError(f"tensor {index} ({tensor.name}) has uint8 weights of several or odd zero points")
    axis %= len(tensor.shape)
    if len(tensor.scales) > 1 and tensor.axis != axis:
        raise ModelError(
            f"tensor {index} ({tensor.name}) has its scales along axis {tensor.axis} instead of {axis}"
        )
    return WeightTensor(
        number=number,
        tensor=index,
        operator=position,
        name=tensor.name,
        kind=kind,
        shape=tensor.shape,
        axis=axis,
        channels=tensor.shape[axis],
        inner=math.prod(tensor.shape[axis + 1 :]),
        values=tensor.real(),
        levels=as_levels(tensor.data) if quantized else None,
        scales=tensor.scales if quantized else None,
        zero_point=int(tensor.zero_points[0]) - 128 if tensor.dtype == "uint8" else 0,
    )


def as_levels(data: Array) -> NDArray[np.int8]:
    """int8 values as they are, uint8 values less 128."""
    return (data ^ 0x80).view(np.int8) if data.dtype == np.uint8 else data.astype(np.int8, copy=False)


def precision(model: Model) -> Precision:
    """How the network computes: `float32`, `float16` (float16 weights dequantized first), `dynamic` (float
    activations with int8 weights), `int8` (int8 or uint8 activations) or `other`."""
    layers = [op for op in model.operators if op.name in WEIGHT_OPERATORS]
    activations = {model.tensors[op.layer_inputs[0]].dtype for op in layers}
    if activations in ({"int8"}, {"uint8"}):
        return "int8"
    if activations - {"float32"} or any(tensor.dtype == "int16" for tensor in model.tensors):
        return "other"
    weights = {str(model.tensors[each.tensor].dtype) for each in weight_tensors(model)}
    if "int8" in weights:
        return "dynamic"
    return "float16" if "float16" in weights else "float32"


BIAS_STEP = 0.125
"""Of a level of a layer's output: what its bias is rounded to at most where it or its weights change."""


@dataclass(frozen=True)
class NewWeights:
    """Values for a weight tensor in its dtype and shape (levels for one that is uint8 in the file).

    `scales` are None for float tensors, else 1 or one per channel. `shift`, (channels,) in real units, is
    added to the layer's bias.
    """

    values: Array
    scales: NDArray[np.float32] | None = None
    shift: NDArray[np.float64] | None = None


def keeps_state(model: Model) -> bool:
    """Whether outputs depend on the inputs before: the network has variables."""
    return any(tensor.variable for tensor in model.tensors) or any(
        operator.name == "VAR_HANDLE" for operator in model.operators
    )


def with_weights(data: bytes, weights: Mapping[int, NewWeights]) -> bytes:
    """The `.tflite` file with new weights, by tensor index.

    Biases (int32) of int8 layers are requantized to the new scales, so that they keep their real values.
    """
    model = read(data)
    for index, tensor in changed(model, weight_tensors(model), weights).items():
        model.tensors[index] = tensor
    return build(model)


def changed(
    model: Model, layers: Sequence[WeightTensor], weights: Mapping[int, NewWeights]
) -> dict[int, Tensor]:
    """The weight tensors with new values, by index, and the biases that change with them.

    `layers` are all of the model's or those that change. Biases of int8 layers that change are rounded to a
    fraction of a level of the output, BIAS_STEP at most, so that they take few bytes.
    """
    before = {each.tensor: each for each in layers}
    tensors: dict[int, Tensor] = {}
    for index, new in weights.items():
        if index not in before:
            raise ModelError(f"tensor {index} is no weight tensor of the model")
        tensors[index] = _with_values(index, model.tensors[index], before[index], new.values, new.scales)
    folded = _folded(model)
    shifted = set()
    levels: dict[int, NDArray[np.float64]] = {}
    for operator in model.operators:
        index = folded.get(_weights_of(operator)[0], _weights_of(operator)[0])
        if index not in weights or operator.layer_inputs[2] < 0:
            continue
        place = folded.get(operator.layer_inputs[2], operator.layer_inputs[2])
        bias = model.tensors[place]
        scales = before[index].scales
        source = model.tensors[operator.layer_inputs[0]]
        if scales is not None and source.dtype in ("int8", "uint8"):
            bias = _rescaled(bias, scales, tensors[index].scales, source.scales)
            if place in tensors and not np.array_equal(tensors[place].data, bias.data):  # type: ignore[arg-type]
                raise ModelError(
                    f"bias tensor {place} serves several layers, so their weights cannot be rescaled"
                )
            tensors[place] = bias
            if weights[index].shift is not None or not _same(before[index], weights[index]):
                level = model.tensors[operator.outputs[0]].scales[0] / bias.scales.astype(np.float64)
                levels[place] = np.minimum(levels.get(place, level), level)
        shift = weights[index].shift
        if shift is not None and shift.any() and place not in shifted:
            shifted.add(place)
            tensors[place] = _shifted(bias, shift)
    for place, level in levels.items():
        tensors[place] = _coarse(tensors[place], BIAS_STEP * level)
    return tensors


def _same(before: WeightTensor, new: NewWeights) -> bool:
    return np.array_equal(before.levels, new.values) and np.array_equal(before.scales, new.scales)  # type: ignore[arg-type]


def _coarse(bias: Tensor, steps: NDArray[np.float64]) -> Tensor:
    """The bias in multiples of the power of two up to each step, 1 or one per channel."""
    if bias.data is None:
        return bias
    powers = 2.0 ** np.clip(np.floor(np.log2(steps)), 0, 30)
    most = 2.0**31 / powers
    multiples = np.rint(bias.data / powers).clip(-most, most - 1)
    return replace(bias, data=(multiples * powers).astype(np.int32), buffer=None)


def bias_of(model: Model, weights: WeightTensor) -> int:
    """Index of the bias that is this layer's alone and constant, so that it can be shifted; else -1."""
    folded = _folded(model)
    place = model.operators[weights.operator].layer_inputs[2]
    users = sum(place in each.inputs for each in model.operators)
    place = folded.get(place, place)
    return place if place >= 0 and users == 1 and model.tensors[place].data is not None else -1


def _shifted(bias: Tensor, shift: NDArray[np.float64]) -> Tensor:
    if bias.data is None:
        raise ModelError(f"the bias {bias.name} is not constant, so it cannot be shifted")
    if not len(bias.scales):
        return replace(bias, data=(bias.data + shift).astype(bias.data.dtype), buffer=None)
    levels = bias.data + np.rint(shift / bias.scales.astype(np.float64))
    return replace(bias, data=_as_int32(levels), buffer=None)


def _rescaled(
    bias: Tensor, before: NDArray[np.float32], after: NDArray[np.float32], inputs: NDArray[np.float32]
) -> Tensor:
    if bias.data is None:
        raise ModelError(
            f"the bias {bias.name} is not constant, so the weights of its layer cannot be rescaled"
        )
    scales = inputs * after
    zeros = np.zeros(len(scales), np.int64)
    data = requantize_bias(bias.data, before, after)
    return replace(bias, data=data, scales=scales, zero_points=zeros, axis=0, buffer=None)


def _with_values(
    index: int, tensor: Tensor, before: WeightTensor, values: Array, scales: NDArray[np.float32] | None
) -> Tensor:
    axis, dtype = before.axis, np.dtype(tensor.dtype if before.levels is None else np.int8)
    if values.shape != tensor.shape or values.dtype != dtype:
        wanted, given = f"{dtype} {list(tensor.shape)}", f"{values.dtype} {list(values.shape)}"
        raise ModelError(
            f"the new weights of tensor {index} ({tensor.name}) must be {wanted}, they are {given}"
        )
    if scales is None:
        if before.levels is not None:
            raise ModelError(f"the new weights of tensor {index} ({tensor.name}) need scales")
        return replace(tensor, data=values, buffer=None)
    if tensor.dtype == "uint8" and len(scales) == 1:
        same = (values == before.levels).all() and (scales == before.scales).all()
        zeros = tensor.zero_points if same else np.array([128], np.int64)
        data = values.view(np.uint8) ^ 0x80
        return replace(tensor, data=data, buffer=None, scales=scales, zero_points=zeros, axis=axis)
    if tensor.dtype != "int8" or scales.shape not in ((1,), (tensor.shape[axis],)):
        raise ModelError(
            f"tensor {index} ({tensor.name}) takes 1 or {tensor.shape[axis]} scales for int8 weights"
        )
    zeros = np.zeros(len(scales), np.int64)
    return replace(tensor, data=values, buffer=None, scales=scales, zero_points=zeros, axis=axis)


def requantize_bias(
    bias: Array, old_scales: NDArray[np.float32], new_scales: NDArray[np.float32]
) -> NDArray[np.int32]:
    """The int32 biases that stand for the same real values after the scales of the weights changed.

    A bias counts in units of input scale * weight scale; equal scales change nothing.
    """
    ratio = old_scales.astype(np.float64) / new_scales.astype(np.float64)
    return _as_int32(np.rint(bias.astype(np.float64) * ratio))


def _as_int32(bias: Array) -> NDArray[np.int32]:
    limits = np.iinfo(np.int32)
    if bias.min(initial=0) < limits.min or bias.max(initial=0) > limits.max:
        raise ModelError("a bias does not fit 32 bits with the new scales of its weights; use larger scales")
    return bias.astype(np.int32)


def to_float32(model: Model) -> bytes:
    """An equivalent float32 `.tflite`: constants dequantized and the DEQUANTIZE operators behind them folded.

    For `float16` and `dynamic` models; tensors keep their indices and weights their numbers.
    """
    graph = model.subgraphs[0]
    tensors = list(graph.tensors)
    operators = []
    for operator in graph.operators:
        if _is_constant_dequantize(model, operator):
            source, target = operator.inputs[0], operator.outputs[0]
            tensors[target] = replace(tensors[target], data=tensors[source].real())
            tensors[source] = replace(graph.tensors[source], data=None)
            continue
        operators.append(operator)
        weights = _weights_of(operator)[0]
        if (
            weights >= 0
            and tensors[weights].dtype == "int8"
            and tensors[operator.inputs[0]].dtype == "float32"
        ):
            tensors[weights] = Tensor(
                tensors[weights].name, tensors[weights].shape, "float32", data=tensors[weights].real()
            )
    return build(
        replace(model, subgraphs=[replace(graph, tensors=tensors, operators=operators), *model.subgraphs[1:]])
    )


def with_constants(model: Model, floats: Model) -> Model:
    """A `float32`, `float16` or `dynamic` model with the values of `floats`, which was `to_float32` of it."""
    folded = {source: target for target, source in _folded(model).items()}
    tensors = list(model.tensors)
    for index, tensor in enumerate(tensors):
        new = floats.tensors[folded.get(index, index)]
        known = tensor.data is not None and new.data is not None and new.dtype == "float32"
        if known and not np.array_equal(new.real(), tensor.real()):
            tensors[index] = _stored(tensor, new.real())
    return replace(model, subgraphs=[replace(model.subgraphs[0], tensors=tensors), *model.subgraphs[1:]])


def _stored(tensor: Tensor, values: Array) -> Tensor:
    """Other values, float32 in the tensor's shape, in its type: of int8 from -127 to 127."""
    if tensor.dtype != "int8":
        return replace(tensor, data=values.astype(tensor.dtype), buffer=None)
    others = tuple(axis for axis in range(values.ndim) if len(tensor.scales) == 1 or axis != tensor.axis)
    peaks = np.abs(values).max(axis=others, keepdims=True)
    scales = np.where(peaks > 0, peaks / np.float32(127), np.float32(1)).astype(np.float32)
    levels = np.rint(values / scales).astype(np.int8)
    return replace(tensor, data=levels, buffer=None, scales=scales.reshape(-1))


def without_unused_tensors(model: Model) -> Model:
    """The network without the tensors that nothing uses; the others are numbered anew."""
    graph = model.subgraphs[0]
    used = {*graph.inputs, *graph.outputs}
    for op in graph.operators:
        used.update((*op.inputs, *op.outputs, *op.intermediates))
    kept = sorted(used - {-1})
    number = {-1: -1} | {old: new for new, old in enumerate(kept)}

    def renumber(indices: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(number[i] for i in indices)

    operators = [
        replace(
            op,
            inputs=renumber(op.inputs),
            outputs=renumber(op.outputs),
            intermediates=renumber(op.intermediates),
        )
        for op in graph.operators
    ]
    tensors = [graph.tensors[i] for i in kept]
    graph = Subgraph(tensors, operators, renumber(graph.inputs), renumber(graph.outputs), graph.name)
    return replace(model, subgraphs=[graph, *model.subgraphs[1:]], signatures=[])


def _folded(model: Model) -> dict[int, int]:
    """What constant DEQUANTIZE operators give, with what they take."""
    return {op.outputs[0]: op.inputs[0] for op in model.operators if _is_constant_dequantize(model, op)}


def _is_constant_dequantize(model: Model, operator: Operator) -> bool:
    return operator.name == "DEQUANTIZE" and model.tensors[operator.inputs[0]].data is not None
