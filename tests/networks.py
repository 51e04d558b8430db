"""Random small `.tflite` networks: one strategy per operator, some made of the blocks of well-known ones.

`OPERATORS` and `BLOCKS` map names to strategies of `Model`; `reference` runs a model on TFLite's reference
kernels and `execute` lowers it and runs it on the numpy executor.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ai_edge_litert import interpreter  # type: ignore[import-untyped]
from ai_edge_litert import schema_py_generated as schema
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from numpy.typing import NDArray
from regrow.executor import Executor
from regrow.graph import Graph
from regrow.reader import Reader
from regrow_host import graphmodel, lower, tflite
from regrow_host.tflite import Model, Operator, Subgraph, Tensor

Array = NDArray[Any]
Dtype = Literal["int8", "uint8"]

SAME, VALID = 0, 1


class Net:
    """Adds tensors and operators of a network by hand; tensors are meant by their index.

    Zero points are often extreme; those of a `calm` net are not, so that its chains do not saturate.
    """

    def __init__(self, seed: int = 0, dtype: Dtype = "int8", calm: bool = False) -> None:
        self.calm = calm
        self.random = np.random.default_rng(seed)
        self.dtype = dtype
        self.bounds = np.iinfo(dtype)
        self.tensors: list[Tensor] = []
        self.operators: list[Operator] = []
        self.inputs: list[int] = []
        self.subgraphs: list[Subgraph] = []

    def scale(self, low: float = -6, high: float = -2) -> float:
        return float(np.exp(self.random.uniform(low, high)))

    def zero_point(self) -> int:
        low, high = int(self.bounds.min), int(self.bounds.max)
        if self.calm:
            return (low + high + 1) // 2 + int(self.random.integers(-15, 15))
        return int(
            self.random.choice([low, high, (low + high + 1) // 2, self.random.integers(low, high + 1)])
        )

    def tensor(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def value(
        self,
        shape: Sequence[int],
        scale: float | None = None,
        zero_point: int | None = None,
        data: Any = None,
    ) -> int:
        scale = self.scale() if scale is None else scale
        zero_point = self.zero_point() if zero_point is None else zero_point
        scales, zeros = np.array([scale], np.float32), np.array([zero_point], np.int64)
        name = f"tensor_{len(self.tensors)}"
        return self.tensor(Tensor(name, tuple(shape), self.dtype, scales, zeros, data=data))

    def input(self, shape: Sequence[int], scale: float | None = None) -> int:
        self.inputs.append(self.value(shape, scale))
        return self.inputs[-1]

    def like(self, x: int, shape: Sequence[int] | None = None) -> int:
        """A tensor in the units of x."""
        given = self.tensors[x]
        shape = given.shape if shape is None else shape
        return self.value(shape, float(given.scales[0]), int(given.zero_points[0]))

    def shape(self, x: int) -> tuple[int, ...]:
        return self.tensors[x].shape

    def levels(self, shape: Sequence[int]) -> Array:
        return self.random.integers(self.bounds.min, self.bounds.max, tuple(shape), self.dtype, endpoint=True)

    def constant(self, shape: Sequence[int]) -> int:
        return self.value(shape, data=self.levels(shape))

    def integers(self, values: Any) -> int:
        data = np.array(values, np.int32)
        return self.tensor(Tensor(f"integers_{len(self.tensors)}", data.shape, "int32", data=data))

    def op(self, name: str, inputs: Sequence[int], outputs: Sequence[int] | int, options: Any = None) -> int:
        """Add an operator; returns its first output (-1 without one)."""
        given = (outputs,) if isinstance(outputs, int) else tuple(outputs)
        self.operators.append(Operator(tflite.OPERATOR_CODES[name], tuple(inputs), given, options))
        return given[0] if given else -1

    def layer(self, name: str, x: int, taps: Sequence[int], shape: Sequence[int], options: Any) -> int:
        """An operator with random weights of the shape `taps` and a bias, whose output its sums fill."""
        axis = 3 if name == "DEPTHWISE_CONV_2D" else 0
        channels, terms = taps[axis], math.prod(taps) // taps[axis]
        uint8 = self.dtype == "uint8"
        several = not uint8 and name != "FULLY_CONNECTED" and self.random.random() < 0.7
        scales = np.exp(self.random.uniform(-6, -2, channels if several else 1)).astype(np.float32)
        zeros = np.full(len(scales), self.zero_point() if uint8 else 0, np.int64)
        data = self.levels(taps)
        if not uint8:
            data = np.maximum(data, -127)
        weights = self.tensor(
            Tensor(f"weights_{len(self.tensors)}", tuple(taps), self.dtype, scales, zeros, axis, data)
        )
        bias = self.random.integers(-20000, 20000, channels, np.int32)
        units = self.tensors[x].scales * scales
        zeros = np.zeros(len(units), np.int64)
        bias_id = self.tensor(
            Tensor(f"bias_{len(self.tensors)}", (channels,), "int32", units, zeros, 0, bias)
        )
        typical = float(units.mean()) * math.sqrt(terms) * 74 * 74
        spread = 0.3 if self.calm else 1.5
        output = self.value(shape, typical / 60 * math.exp(self.random.uniform(-spread, spread)))
        inputs = [x, weights, bias_id]
        if name == "TRANSPOSE_CONV":
            inputs = [self.integers(shape), weights, x, bias_id]
        return self.op(name, inputs, output, options)

    def conv(self, x: int, channels: int, size: int = 1, *, stride: int = 1, activation: int = 0) -> int:
        _, height, width, depth = self.shape(x)
        options = schema.Conv2DOptionsT(SAME, stride, stride, activation, 1, 1)
        shape = (1, *(windows(n, size, stride, 1, SAME) for n in (height, width)), channels)
        return self.layer("CONV_2D", x, (channels, size, size, depth), shape, options)

    def depthwise(self, x: int, size: int = 3, stride: int = 1, activation: int = 0) -> int:
        _, height, width, depth = self.shape(x)
        options = schema.DepthwiseConv2DOptionsT(SAME, stride, stride, 1, activation, 1, 1)
        shape = (1, *(windows(n, size, stride, 1, SAME) for n in (height, width)), depth)
        return self.layer("DEPTHWISE_CONV_2D", x, (1, size, size, depth), shape, options)

    def dense(self, x: int, units: int) -> int:
        terms = math.prod(self.shape(x))
        options = schema.FullyConnectedOptionsT(0)
        return self.layer("FULLY_CONNECTED", x, (units, terms), (1, units), options)

    def add(self, a: int, b: int, activation: int = 0) -> int:
        shape = np.broadcast_shapes(self.shape(a), self.shape(b))
        scale = float(self.tensors[a].scales[0] + self.tensors[b].scales[0])
        return self.op("ADD", [a, b], self.value(shape, scale), schema.AddOptionsT(activation))

    def mul(self, a: int, b: int) -> int:
        shape = np.broadcast_shapes(self.shape(a), self.shape(b))
        scale = float(self.tensors[a].scales[0] * self.tensors[b].scales[0]) * 80
        return self.op("MUL", [a, b], self.value(shape, scale), schema.MulOptionsT(0))

    def reshape(self, x: int, shape: Sequence[int]) -> int:
        options = schema.ReshapeOptionsT(list(shape))
        return self.op("RESHAPE", [x, self.integers(shape)], self.like(x, shape), options)

    def concatenate(self, parts: Sequence[int], axis: int) -> int:
        shape = list(self.shape(parts[0]))
        shape[axis] = sum(self.shape(part)[axis] for part in parts)
        options = schema.ConcatenationOptionsT(axis, 0)
        return self.op("CONCATENATION", parts, self.like(parts[0], shape), options)

    def mean(self, x: int) -> int:
        """Over rows and columns, which stay as axes of 1."""
        one, _, _, depth = self.shape(x)
        output = self.value((one, 1, 1, depth), float(self.tensors[x].scales[0]) / 3)
        return self.op("MEAN", [x, self.integers([1, 2])], output, schema.ReducerOptionsT(True))

    def lookup(self, name: str, x: int, options: Any = None) -> int:
        scale = float(self.tensors[x].scales[0])
        return self.op(name, [x], self.value(self.shape(x), scale), options)

    def softmax(self, x: int) -> int:
        output = self.value(self.shape(x), 1 / 256, int(self.bounds.min))
        return self.op("SOFTMAX", [x], output, schema.SoftmaxOptionsT(1.0))

    def model(self, *outputs: int) -> Model:
        graph = Subgraph(self.tensors, self.operators, tuple(self.inputs), outputs)
        return Model([graph, *self.subgraphs])


def windows(given: int, size: int, stride: int, dilation: int, padding: int) -> int:
    less = (size - 1) * dilation if padding == VALID else 0
    return -(-(given - less) // stride)


@dataclass
class Source:
    """Weights that are not in a pack."""

    levels: Array
    scales: Array
    position: int = 0

    def __post_init__(self) -> None:
        self.count = self.levels.size

    def rewind(self) -> None:
        self.position = 0

    def read_levels(self, out: Array) -> None:
        out[:] = self.levels.reshape(-1)[self.position : self.position + out.size]
        self.position += out.size


def lowered(model: Model) -> tuple[Graph, dict[int, graphmodel.Levels]]:
    """The graph of a model, by way of the bytes of its graph part, and its weights by number."""
    found = lower.lower(tflite.read(tflite.build(model)))
    data = lower.graph_bytes(found)
    weights: dict[int, graphmodel.Levels] = {}
    for each in found.weights:
        assert each.levels is not None
        assert each.scales is not None
        weights[each.number] = each.levels, each.scales
    return Graph.parse(Reader(io.BytesIO(data), 0, len(data))), weights


def execute(model: Model, inputs: Sequence[Array]) -> list[Array]:
    """What the numpy executor gives: per output (samples, *shape)."""
    graph, weights = lowered(model)
    sources = {number: Source(*each) for number, each in weights.items()}
    return Executor(graph, sources.__getitem__).run(inputs)


def reference(model: Model, inputs: Sequence[Array]) -> list[Array]:
    """What TFLite's reference kernels give: per output (samples, *shape)."""
    runner = interpreter.Interpreter(
        model_content=tflite.build(model),
        experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF,
    )
    runner.allocate_tensors()
    ids = [detail["index"] for detail in runner.get_input_details()]
    outputs = [detail["index"] for detail in runner.get_output_details()]
    results = []
    for sample in zip(*inputs, strict=True):
        for i, array in zip(ids, sample, strict=True):
            runner.set_tensor(i, array)
        runner.invoke()
        results.append([runner.get_tensor(i) for i in outputs])
    return [np.stack(column) for column in zip(*results, strict=True)]


def samples(model: Model, count: int, seed: int = 0) -> list[Array]:
    """Random inputs, per input (samples, *shape); the extremes are among them."""
    random = np.random.default_rng(seed)
    arrays = []
    for i in model.inputs:
        tensor = model.tensors[i]
        info = np.iinfo(tensor.dtype)
        array = random.integers(info.min, info.max, (count, *tensor.shape), tensor.dtype, endpoint=True)
        array[0] = random.choice([info.min, info.max], tensor.shape)
        arrays.append(array)
    return arrays


seeds = st.integers(0, 2**32 - 1)
activations = st.integers(0, 3)
dtypes: SearchStrategy[Dtype] = st.sampled_from(["int8", "uint8"])
sizes = st.sampled_from([1, 2, 3, 5, 8])
shapes = st.sampled_from([4, 4, 3, 2, 1]).flatmap(lambda rank: st.tuples(st.just(1), *[sizes] * (rank - 1)))
images = st.tuples(st.just(1), st.integers(3, 9), st.integers(3, 9), st.integers(1, 9))


def nets(calm: bool = False) -> SearchStrategy[Net]:
    return st.builds(Net, seeds, dtypes, st.just(calm))


@st.composite
def window(draw: DrawFn, sizes: Sequence[int], dilated: bool) -> tuple[Any, ...]:
    """Taps, strides, dilations, padding and the counts of windows over the sizes."""
    padding = draw(st.sampled_from([SAME, VALID]))
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    stride, dilation = draw(pair), draw(pair) if dilated else (1, 1)
    longest = [(n - 1) // d + 1 if padding == VALID else 4 for n, d in zip(sizes, dilation, strict=True)]
    taps = tuple(draw(st.integers(1, min(4, most))) for most in longest)
    counts = tuple(map(windows, sizes, taps, stride, dilation, (padding, padding)))
    return taps, stride, dilation, padding, counts


@st.composite
def conv(draw: DrawFn) -> Model:
    net, shape, channels, activation = draw(nets()), draw(images), draw(st.integers(1, 9)), draw(activations)
    taps, stride, dilation, padding, counts = draw(window(shape[1:3], dilated=True))
    options = schema.Conv2DOptionsT(padding, stride[1], stride[0], activation, dilation[1], dilation[0])
    x = net.input(shape)
    return net.model(net.layer("CONV_2D", x, (channels, *taps, shape[3]), (1, *counts, channels), options))


@st.composite
def depthwise(draw: DrawFn) -> Model:
    net, shape, multiplier, activation = (
        draw(nets()),
        draw(images),
        draw(st.integers(1, 3)),
        draw(activations),
    )
    taps, stride, dilation, padding, counts = draw(window(shape[1:3], dilated=True))
    channels = shape[3] * multiplier
    options = schema.DepthwiseConv2DOptionsT(
        padding, stride[1], stride[0], multiplier, activation, dilation[1], dilation[0]
    )
    x = net.input(shape)
    return net.model(net.layer("DEPTHWISE_CONV_2D", x, (1, *taps, channels), (1, *counts, channels), options))


@st.composite
def transpose_conv(draw: DrawFn) -> Model:
    net, channels, activation = draw(nets()), draw(st.integers(1, 5)), draw(activations)
    _, height, width, depth = draw(images)
    taps, stride, _, padding, counts = draw(window((height, width), dilated=False))
    x = net.input((1, *counts, depth))
    options = schema.TransposeConvOptionsT(padding, stride[1], stride[0], activation)
    shape = (1, height, width, channels)
    return net.model(net.layer("TRANSPOSE_CONV", x, (channels, *taps, depth), shape, options))


@st.composite
def fully_connected(draw: DrawFn) -> Model:
    net, rows, terms, units = draw(nets()), *(draw(st.integers(1, n)) for n in (3, 300, 40))
    x = net.input((1, rows, terms))
    options = schema.FullyConnectedOptionsT(draw(activations), 0, True)
    return net.model(net.layer("FULLY_CONNECTED", x, (units, terms), (1, rows, units), options))


@st.composite
def pooling(draw: DrawFn, name: str) -> Model:
    net, shape, activation = draw(nets()), draw(images), draw(activations)
    taps, stride, _, padding, counts = draw(window(shape[1:3], dilated=False))
    options = schema.Pool2DOptionsT(padding, stride[1], stride[0], taps[1], taps[0], activation)
    x = net.input(shape)
    return net.model(net.op(name, [x], net.like(x, (1, *counts, shape[3])), options))


@st.composite
def pairwise(draw: DrawFn, name: str) -> Model:
    net, shape = draw(nets()), draw(shapes)
    other = [1 if draw(st.booleans()) else size for size in shape]
    other = other[draw(st.integers(0, len(other))) :]
    x = net.input(shape)
    y = net.constant(other) if draw(st.booleans()) else net.input(other if other[:1] == [1] else shape)
    pair = [x, y] if draw(st.booleans()) else [y, x]
    a, b = (float(net.tensors[i].scales[0]) for i in pair)
    scale = a * b * 200 if name == "MUL" else a + b
    output = net.value(shape, scale * math.exp(net.random.uniform(-1, 1)))
    options = {"ADD": schema.AddOptionsT, "SUB": schema.SubOptionsT, "MUL": schema.MulOptionsT}[name]
    return net.model(net.op(name, pair, output, options(draw(activations))))


@st.composite
def reducer(draw: DrawFn, name: str) -> Model:
    # LiteRT's reference SUM takes int8 for uint8 (test_operators.py); uint8 is right.
    net, shape = draw(st.builds(Net, seeds, st.just("uint8")) if name == "SUM" else nets()), draw(shapes)
    axes = draw(st.lists(st.integers(-len(shape), len(shape) - 1), min_size=1, max_size=4))
    axes = list({axis % len(shape): axis for axis in axes}.values())
    places, kept = {axis % len(shape) for axis in axes}, draw(st.booleans())
    reduced = [1 if i in places else n for i, n in enumerate(shape) if kept or i not in places]
    x = net.input(shape)
    more = math.prod(shape[i] for i in places) ** 0.5 if name == "SUM" else 1
    scale = float(net.tensors[x].scales[0]) * more * math.exp(net.random.uniform(-1, 1))
    output = net.like(x, reduced) if draw(st.integers(0, 3)) == 0 else net.value(reduced, scale)
    return net.model(net.op(name, [x, net.integers(axes)], output, schema.ReducerOptionsT(kept)))


@st.composite
def softmax(draw: DrawFn) -> Model:
    net, shape = draw(nets()), draw(shapes)
    x = net.input(shape, net.scale(-9, 1))
    output = net.value(shape, 1 / 256, int(net.bounds.min))
    beta = draw(st.sampled_from([0.25, 1.0, 3.0]))
    return net.model(net.op("SOFTMAX", [x], output, schema.SoftmaxOptionsT(beta)))


@st.composite
def arg_max(draw: DrawFn) -> Model:
    net, shape = draw(nets()), draw(shapes)
    axis, wide = draw(st.integers(-len(shape), len(shape) - 1)), draw(st.booleans())
    dtype, code = ("int64", schema.TensorType.INT64) if wide else ("int32", schema.TensorType.INT32)
    left = tuple(n for i, n in enumerate(shape) if i != axis % len(shape))
    output = net.tensor(Tensor("places", left, dtype))
    x = net.input(shape)
    return net.model(net.op("ARG_MAX", [x, net.integers(axis)], output, schema.ArgMaxOptionsT(code)))


@st.composite
def reshaped(draw: DrawFn, name: str) -> Model:
    net, shape = draw(nets()), draw(shapes)
    x = net.input(shape)
    if name == "EXPAND_DIMS":
        axis = draw(st.integers(-len(shape) - 1, len(shape)))
        place = axis + len(shape) + 1 if axis < 0 else axis
        output = net.like(x, (*shape[:place], 1, *shape[place:]))
        return net.model(net.op(name, [x, net.integers(axis)], output, schema.ExpandDimsOptionsT()))
    if name == "SQUEEZE":
        ones = [i for i, n in enumerate(shape) if n == 1]
        gone = draw(st.lists(st.sampled_from(ones), unique=True))
        left = [n for i, n in enumerate(shape) if i not in gone and (gone or n != 1)]
        return net.model(net.op(name, [x], net.like(x, left), schema.SqueezeOptionsT(sorted(gone))))
    order = draw(st.permutations(shape))
    open_axis = draw(st.integers(0, len(shape)))
    wanted = [-1 if i == open_axis else n for i, n in enumerate(order)]
    output = net.like(x, order)
    if draw(st.booleans()):
        return net.model(net.op(name, [x, net.integers(wanted)], output, schema.ReshapeOptionsT(wanted)))
    return net.model(net.op(name, [x], output, schema.ReshapeOptionsT(wanted)))


@st.composite
def concatenation(draw: DrawFn) -> Model:
    net, shape = draw(nets()), draw(shapes)
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    parts = []
    for size in sizes:
        own = [size if i == axis % len(shape) else n for i, n in enumerate(shape)]
        if own[0] != 1:
            own = list(shape)
        same = parts and (net.dtype == "int8" or draw(st.booleans()))
        parts.append(net.like(parts[0], own) if same else net.value(own))
    net.inputs += parts
    return net.model(net.concatenate(parts, axis % len(shape)))


@st.composite
def pad(draw: DrawFn) -> Model:
    net, shape = draw(nets()), draw(shapes)
    pads = [draw(st.tuples(st.integers(0, 3), st.integers(0, 3))) for _ in shape]
    x = net.input(shape)
    output = net.like(x, [n + sum(each) for n, each in zip(shape, pads, strict=True)])
    return net.model(net.op("PAD", [x, net.integers(pads)], output, schema.PadOptionsT()))


@st.composite
def transpose(draw: DrawFn) -> Model:
    net, shape = draw(nets()), draw(shapes)
    order = draw(st.permutations(range(len(shape))))
    x = net.input(shape)
    output = net.like(x, [shape[axis] for axis in order])
    return net.model(net.op("TRANSPOSE", [x, net.integers(order)], output, schema.TransposeOptionsT()))


@st.composite
def split(draw: DrawFn, name: str) -> Model:
    net, shape = draw(nets()), list(draw(shapes))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    if axis % len(shape) == 0:
        sizes = [1]
    if name == "SPLIT":
        sizes = sizes[:1] * len(sizes)
    shape[axis] = sum(sizes)
    x = net.input(shape)
    outputs = []
    for size in sizes:
        shape[axis] = size
        outputs.append(net.like(x, shape))
    if name == "SPLIT":
        net.op(name, [net.integers(axis), x], outputs, schema.SplitOptionsT(len(sizes)))
    else:
        inputs = [x, net.integers(sizes), net.integers(axis)]
        net.op(name, inputs, outputs, schema.SplitVOptionsT(len(sizes)))
    return net.model(*outputs)


@st.composite
def strided_slice(draw: DrawFn) -> Model:
    net, shape = draw(nets()), draw(shapes)
    x = net.input(shape)
    begins, ends, strides, left = [], [], [], []
    masks = [0, 0, 0]
    for i, size in enumerate(shape):
        begin, stride = draw(st.integers(-size, size - 1)), draw(st.sampled_from([1, 1, 2, 3, -1, -2]))
        if draw(st.integers(0, 3)) == 0:
            masks[2] |= 1 << i
            begins, ends, strides = [*begins, begin], [*ends, begin + 1], [*strides, 1]
            continue
        opens, closes = draw(st.booleans()), draw(st.booleans())
        end = draw(st.integers(-size - 2, size + 2))
        count = len(range(*slice(None if opens else begin, None if closes else end, stride).indices(size)))
        if not count:
            opens = closes = True
            count = len(range(*slice(None, None, stride).indices(size)))
        masks[0] |= opens << i
        masks[1] |= closes << i
        left.append(count)
        begins, ends, strides = [*begins, begin], [*ends, end], [*strides, stride]
    options = schema.StridedSliceOptionsT(masks[0], masks[1], 0, 0, masks[2], False)
    inputs = [x, net.integers(begins), net.integers(ends), net.integers(strides)]
    return net.model(net.op("STRIDED_SLICE", inputs, net.like(x, left), options))


@st.composite
def resize(draw: DrawFn) -> Model:
    net, shape = draw(nets()), draw(images)
    size = draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    corners, half = draw(st.sampled_from([(False, False), (True, False), (False, True)]))
    x = net.input(shape)
    output = net.like(x, (1, *size, shape[3]))
    options = schema.ResizeNearestNeighborOptionsT(corners, half)
    return net.model(net.op("RESIZE_NEAREST_NEIGHBOR", [x, net.integers(size)], output, options))


@st.composite
def lookup(draw: DrawFn, name: str) -> Model:
    """Each of the 256 values goes in."""
    net = draw(nets())
    units: dict[str, tuple[float, int]] = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}
    x = net.input((1, 700), net.scale(-7, 0))
    scale = float(net.tensors[x].scales[0]) * math.exp(net.random.uniform(-1.5, 1.5))
    if name in units:
        scale, zero_point = units[name]
        output = net.value((1, 700), scale, zero_point + 128 * (net.dtype == "uint8"))
    elif name == "QUANTIZE":
        net.dtype = draw(dtypes)
        net.bounds = np.iinfo(net.dtype)
        output = net.value((1, 700), draw(st.sampled_from([scale, float(net.tensors[x].scales[0])])))
    else:
        output = net.value((1, 700), scale)
    options = None
    if name == "LEAKY_RELU":
        options = schema.LeakyReluOptionsT(draw(st.floats(-0.5, 1.5, width=32)))
    return net.model(net.op(name, [x], output, options))


LOOKUPS = ("HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "QUANTIZE", "RELU", "RELU6", "RELU_N1_TO_1", "TANH")

OPERATORS: dict[str, SearchStrategy[Model]] = {
    "ADD": pairwise("ADD"),
    "ARG_MAX": arg_max(),
    "AVERAGE_POOL_2D": pooling("AVERAGE_POOL_2D"),
    "CONCATENATION": concatenation(),
    "CONV_2D": conv(),
    "DEPTHWISE_CONV_2D": depthwise(),
    "EXPAND_DIMS": reshaped("EXPAND_DIMS"),
    "FULLY_CONNECTED": fully_connected(),
    "MAX_POOL_2D": pooling("MAX_POOL_2D"),
    "MEAN": reducer("MEAN"),
    "MUL": pairwise("MUL"),
    "PAD": pad(),
    "RESHAPE": reshaped("RESHAPE"),
    "RESIZE_NEAREST_NEIGHBOR": resize(),
    "SOFTMAX": softmax(),
    "SPLIT": split("SPLIT"),
    "SPLIT_V": split("SPLIT_V"),
    "SQUEEZE": reshaped("SQUEEZE"),
    "STRIDED_SLICE": strided_slice(),
    "SUB": pairwise("SUB"),
    "SUM": reducer("SUM"),
    "TRANSPOSE": transpose(),
    "TRANSPOSE_CONV": transpose_conv(),
    **{name: lookup(name) for name in LOOKUPS},
}


def inverted_residual(net: Net, depth: int) -> Model:
    """MobileNetV2: expand, depthwise, project, add; then the strided kind, and the head."""
    x = net.input((1, 8, 8, depth))
    wide = net.depthwise(net.conv(x, 4 * depth, activation=3), activation=3)
    added = net.add(net.conv(wide, depth), x)
    wide = net.depthwise(net.conv(added, 3 * depth, activation=3), stride=2, activation=3)
    logits = net.dense(net.mean(net.conv(wide, 2 * depth)), 5)
    return net.model(logits, net.softmax(logits))


def squeeze_excite(net: Net, depth: int) -> Model:
    """MobileNetV3: HARD_SWISH, and channels that are weighed by a hard sigmoid of their means."""
    x = net.input((1, 7, 7, depth))
    wide = net.lookup("HARD_SWISH", net.depthwise(net.lookup("HARD_SWISH", net.conv(x, 8), None), 5))
    squeezed = net.conv(net.conv(net.mean(wide), 4, activation=1), 8)
    gate = net.lookup("RELU6", net.add(squeezed, net.constant(())))
    weighed = net.mul(wide, net.mul(gate, net.constant((1, 1, 1, 1))))
    return net.model(net.add(net.conv(weighed, depth), x))


def channel_shuffle(net: Net, depth: int) -> Model:
    """ShuffleNetV2: split, work on one half, concatenate, shuffle; the shape is that of a flattened head."""
    x = net.conv(net.input((1, 6, 6, 3)), 2 * depth, 3, activation=1)
    halves = [net.like(x, (1, 6, 6, depth)) for _ in range(2)]
    net.op("SPLIT", [net.integers(3), x], halves, schema.SplitOptionsT(2))
    worked = net.conv(net.depthwise(net.conv(halves[1], depth, activation=1)), depth, activation=1)
    if net.dtype == "int8":  # whose concatenation takes equal units only
        net.tensors[worked].scales = net.tensors[x].scales
        net.tensors[worked].zero_points = net.tensors[x].zero_points
    joined = net.concatenate([halves[0], worked], 3)
    groups = net.reshape(joined, (1, 6, 6, 2, depth))
    order = net.like(groups, (1, 6, 6, depth, 2))
    net.op("TRANSPOSE", [groups, net.integers([0, 1, 2, 4, 3])], order, schema.TransposeOptionsT())
    return net.model(net.dense(net.mean(net.reshape(order, (1, 6, 6, 2 * depth))), 4))


def fire(net: Net, depth: int) -> Model:
    """SqueezeNet: squeeze, expand by two kernels into one tensor, pool."""
    x = net.input((1, 9, 9, 3))
    squeezed = net.conv(net.conv(x, 6, 3, stride=2, activation=1), depth, activation=1)
    expanded = net.conv(squeezed, 5, activation=1), net.conv(squeezed, 5, 3, activation=1)
    if net.dtype == "int8":
        net.tensors[expanded[1]].scales = net.tensors[expanded[0]].scales
        net.tensors[expanded[1]].zero_points = net.tensors[expanded[0]].zero_points
    joined = net.concatenate(expanded, 3)
    options = schema.Pool2DOptionsT(SAME, 2, 2, 3, 3, 0)
    pooled = net.op("MAX_POOL_2D", [joined], net.like(joined, (1, 3, 3, 10)), options)
    logits = net.reshape(net.mean(net.conv(pooled, 4)), (1, 4))
    return net.model(logits, net.softmax(logits))


def upsampler(net: Net, depth: int) -> Model:
    """A decoder: what was made smaller grows by a resize and by TRANSPOSE_CONV, both are concatenated."""
    x = net.input((1, 8, 8, 2))
    small = net.conv(x, depth, 3, stride=2, activation=1)
    options = schema.ResizeNearestNeighborOptionsT(False, True)
    size = net.integers([8, 8])
    large = net.op("RESIZE_NEAREST_NEIGHBOR", [small, size], net.like(small, (1, 8, 8, depth)), options)
    transposed = schema.TransposeConvOptionsT(SAME, 2, 2, 1)
    grown = net.layer("TRANSPOSE_CONV", small, (depth, 3, 3, depth), (1, 8, 8, depth), transposed)
    if net.dtype == "int8":
        net.tensors[grown].scales = net.tensors[large].scales
        net.tensors[grown].zero_points = net.tensors[large].zero_points
    return net.model(net.conv(net.concatenate([large, grown], 3), 2, 3))


def streaming(net: Net, depth: int) -> Model:
    """Two layers that remember the last frames in resource variables."""
    x = net.input((1, 1, 1, depth))
    for n, frames in enumerate((3, 2)):
        size = net.shape(x)[3]
        resource = net.tensor(Tensor(f"handle_{n}", (), "resource"))
        net.op("VAR_HANDLE", [], resource, schema.VarHandleOptionsT("", f"state_{n}"))
        state = net.op(
            "READ_VARIABLE", [resource], net.like(x, (1, frames, 1, size)), schema.ReadVariableOptionsT()
        )
        window = net.concatenate([state, x], 1)
        places = [net.integers(each) for each in ([0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1])]
        rest = net.like(x, (1, frames, 1, size))
        net.op("STRIDED_SLICE", [window, *places], rest, schema.StridedSliceOptionsT(13, 15, 0, 0, 0, False))
        net.op("ASSIGN_VARIABLE", [resource, rest], (), schema.AssignVariableOptionsT())
        options = schema.Conv2DOptionsT(VALID, 1, 1, 1, 1, 1)
        x = net.layer("CONV_2D", window, (4, frames + 1, 1, size), (1, 1, 1, 4), options)
        _initialize(net, n, state)
    logits = net.dense(x, 3)
    return net.model(logits, net.softmax(logits))


def _initialize(net: Net, number: int, state: int) -> None:
    """A subgraph that sets the variable to its zero point, called once."""
    like = net.tensors[state]
    fill = np.full(like.shape, like.zero_points[0], net.dtype)
    tensors = [
        Tensor("handle", (), "resource"),
        Tensor("zero", like.shape, net.dtype, like.scales, like.zero_points, data=fill),
    ]
    handle, assign = tflite.OPERATOR_CODES["VAR_HANDLE"], tflite.OPERATOR_CODES["ASSIGN_VARIABLE"]
    operators = [
        Operator(handle, (), (0,), schema.VarHandleOptionsT("", f"state_{number}")),
        Operator(assign, (0, 1), (), schema.AssignVariableOptionsT()),
    ]
    net.subgraphs.append(Subgraph(tensors, operators, (), (), f"init_{number}"))
    call = Operator(tflite.OPERATOR_CODES["CALL_ONCE"], (), (), schema.CallOnceOptionsT(len(net.subgraphs)))
    net.operators.insert(0, call)


def residual(net: Net, depth: int) -> Model:
    """ResNet: a block that adds what it took, one that halves rows and columns, a pooling."""
    height, width, size = (int(net.random.integers(*ends)) for ends in ((24, 40), (6, 20), (2, 6)))
    x = net.conv(net.input((1, height, width, 3)), 4 * depth, 3, activation=1)
    added = net.add(net.conv(net.conv(x, 4 * depth, size, activation=1), 4 * depth, 3), x, 1)
    half = net.conv(net.conv(added, 10, 3, stride=2, activation=1), 10, size)
    x = net.lookup("TANH", net.add(half, net.conv(added, 10, stride=2)))
    options = schema.Pool2DOptionsT(SAME, 2, 2, 3, 3, 0)
    shape = 1, *(windows(n, 3, 2, 1, SAME) for n in net.shape(x)[1:3]), 10
    pooled = net.op("MAX_POOL_2D", [x], net.like(x, shape), options)
    return net.model(net.dense(net.mean(pooled), 3), pooled)


BLOCKS: dict[str, SearchStrategy[Model]] = {
    block.__name__: st.builds(block, nets(calm=True), st.integers(2, 6))
    for block in (inverted_residual, squeeze_excite, channel_shuffle, fire, upsampler, streaming, residual)
}
