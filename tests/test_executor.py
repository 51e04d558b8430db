"""The numpy executor against TFLite's int8 reference kernels, bit for bit, op by op."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from regrow.executor import Executor
from regrow.graph import ACTIVATION, CONSTANT, WEIGHTS, Graph, Op, Tensor
from regrow_host import tflite

interpreter = pytest.importorskip("ai_edge_litert.interpreter")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

Array = NDArray[Any]

ADD, AVERAGE_POOL_2D, CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, MAX_POOL_2D, RESHAPE, SOFTMAX = (
    *(0, 1, 3, 4),
    *(9, 17, 22, 25),
)

VERSIONS = {CONV_2D: 5, DEPTHWISE_CONV_2D: 5, FULLY_CONNECTED: 5, RESHAPE: 1} | dict.fromkeys(
    (ADD, AVERAGE_POOL_2D, MAX_POOL_2D, SOFTMAX), 2
)


@dataclass
class Levels:
    """Weights that are not in a pack."""

    levels: Array
    scales: Array
    position: int = 0

    @property
    def count(self) -> int:
        return self.levels.size

    def rewind(self) -> None:
        self.position = 0

    def read_levels(self, out: Array) -> None:
        out[:] = self.levels.reshape(-1)[self.position : self.position + out.size]
        self.position += out.size


class OneOp:
    """A network of one op, as a `.tflite` and as a graph."""

    def __init__(self, code: int, options: Any, option_bytes: bytes) -> None:
        self._code, self._options, self._bytes = code, options, option_bytes
        self._tensors: list[tuple[Tensor, Array]] = []
        self._weights: Levels | None = None

    def values(self, shape: tuple[int, ...], scale: float, zero_point: int) -> "OneOp":
        tensor = Tensor(ACTIVATION, np.dtype(np.int8), shape, float(np.float32(scale)), zero_point)
        self._tensors.append((tensor, np.array([tensor.scale], np.float32)))
        return self

    def weights(self, levels: Array, scales: Array, axis: int) -> "OneOp":
        self._weights = Levels(levels, scales.astype(np.float32))
        self._axis = axis % levels.ndim
        self._tensors.append((Tensor(WEIGHTS, levels.dtype, levels.shape), self._weights.scales))
        return self

    def constant(self, data: Array, scales: Array, zero_point: int = 0) -> "OneOp":
        scales = np.asarray(scales, np.float32).reshape(-1)
        tensor = Tensor(CONSTANT, data.dtype, data.shape, float(scales[0]), zero_point, data=data)
        self._tensors.append((tensor, scales))
        return self

    def run(self, samples: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Outputs of the executor and of TFLite's reference kernels on the same random samples."""
        ids = [i for i, (tensor, _) in enumerate(self._tensors[:-1]) if tensor.kind == ACTIVATION]
        last = len(self._tensors) - 1
        op = Op(self._code, tuple(range(last)), (last,), self._bytes)
        arena = max(tensor.nbytes for tensor, _ in self._tensors)
        graph = Graph(tuple(tensor for tensor, _ in self._tensors), (op,), tuple(ids), (last,), arena)
        graph.check()
        given_inputs = [rng.integers(-128, 128, (samples, *self._tensors[i][0].shape), np.int8) for i in ids]
        executor = Executor(graph, lambda _: self._weights)  # type: ignore[arg-type,return-value]
        return executor.run(given_inputs)[0], reference(self._model(op, ids), given_inputs)

    def _model(self, op: Op, ids: list[int]) -> bytes:
        tensors = [self._tflite_tensor(i) for i in range(len(self._tensors))]
        operator = tflite.Operator(op.code, op.inputs, op.outputs, self._options, VERSIONS[op.code])
        return tflite.build(tflite.Model([tflite.Subgraph(tensors, [operator], tuple(ids), op.outputs)]))

    def _tflite_tensor(self, i: int) -> tflite.Tensor:
        tensor, scales = self._tensors[i]
        data = tensor.data if tensor.kind != WEIGHTS or not self._weights else self._weights.levels
        axis = self._axis if tensor.kind == WEIGHTS else 0
        zero_points = np.full(len(scales), tensor.zero_point, np.int64)
        return tflite.Tensor(f"t{i}", tensor.shape, str(tensor.dtype), scales, zero_points, axis, data)


def reference(model: bytes, inputs: list[Array]) -> Array:
    """What TFLite's reference kernels give, (samples, *shape) for one output."""
    runner = interpreter.Interpreter(
        model_content=model, experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF
    )
    runner.allocate_tensors()
    ids = [detail["index"] for detail in runner.get_input_details()]
    output = runner.get_output_details()[0]["index"]
    results = []
    for sample in zip(*inputs, strict=True):
        for i, array in zip(ids, sample, strict=True):
            runner.set_tensor(i, array)
        runner.invoke()
        results.append(runner.get_tensor(output))
    return np.stack(results)


def scales_of(rng: np.random.Generator, count: int) -> Array:
    return np.exp(rng.uniform(-6, -2, count)).astype(np.float32)


def zero_point(rng: np.random.Generator) -> int:
    return int(rng.choice([-128, 127, 0, int(rng.integers(-128, 128))]))


def fitting_scale(rng: np.random.Generator, x_scale: float, scales: Array, terms: int) -> float:
    """An output scale by which the sums of `terms` products fill int8's range, more or less."""
    return float(x_scale * scales.mean() * np.sqrt(terms) * 74 * 74 / 60 * np.exp(rng.uniform(-2, 2)))


def layer(
    one: OneOp, x: tuple[int, ...], taps: tuple[int, ...], axis: int, y: tuple[int, ...], seed: int
) -> OneOp:
    """Input, weights (per channel or per tensor), perhaps a bias, and output."""
    rng = np.random.default_rng(seed)
    channels = taps[axis]
    x_scale = float(scales_of(rng, 1)[0])
    scales = scales_of(rng, channels if rng.random() < 0.7 else 1)
    levels = rng.integers(-127, 128, taps, np.int8)
    one.values(x, x_scale, zero_point(rng)).weights(levels, scales, axis)
    if len(taps) == 4 or rng.random() < 0.7:
        bias = rng.integers(-20000, 20000, channels, np.int32)
        one.constant(bias, np.float32(x_scale) * scales)
    terms = levels.size // channels
    return one.values(y, fitting_scale(rng, x_scale, scales, terms), zero_point(rng))


seeds = st.integers(0, 2**32 - 1)
activations = st.integers(0, 3)
many = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


def windows(size: int, taps: int, stride: int, dilation: int, same: bool) -> int:
    return -(-(size if same else size - (taps - 1) * dilation) // stride)


@st.composite
def placements(draw: Callable[..., Any], dilated: bool) -> dict[str, Any]:
    """Sizes, strides, dilations and padding of windows that fit their image."""
    same = draw(st.booleans())
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) if dilated else (1, 1)
    taps = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    least = [1 if same else (t - 1) * d + 1 for t, d in zip(taps, dilation, strict=True)]
    size = tuple(draw(st.integers(low, low + 8)) for low in least)
    count = tuple(windows(n, t, s, d, same) for n, t, s, d in zip(size, taps, stride, dilation, strict=True))
    return {"same": same, "stride": stride, "dilation": dilation, "taps": taps, "size": size, "count": count}


def assert_equal(pair: tuple[Array, Array]) -> None:
    np.testing.assert_array_equal(*pair)


@many
@given(placements(dilated=True), st.integers(1, 9), st.integers(1, 20), activations, seeds)
def test_conv_2d(at: dict[str, Any], depth: int, channels: int, activation: int, seed: int) -> None:
    options = schema.Conv2DOptionsT()
    option_bytes = _convolution(options, at, activation)
    one = OneOp(CONV_2D, options, option_bytes)
    layer(one, (1, *at["size"], depth), (channels, *at["taps"], depth), 0, (1, *at["count"], channels), seed)
    assert_equal(one.run(3, np.random.default_rng(seed)))


@many
@given(placements(dilated=True), st.integers(1, 9), st.integers(1, 3), activations, seeds)
def test_depthwise_conv_2d(
    at: dict[str, Any], depth: int, multiplier: int, activation: int, seed: int
) -> None:
    options = schema.DepthwiseConv2DOptionsT()
    option_bytes = _convolution(options, at, activation)
    options.depthMultiplier = multiplier
    one = OneOp(DEPTHWISE_CONV_2D, options, option_bytes)
    channels = depth * multiplier
    layer(one, (1, *at["size"], depth), (1, *at["taps"], channels), 3, (1, *at["count"], channels), seed)
    assert_equal(one.run(3, np.random.default_rng(seed)))


def _convolution(options: Any, at: dict[str, Any], activation: int) -> bytes:
    options.padding = 0 if at["same"] else 1
    options.strideH, options.strideW = at["stride"]
    options.dilationHFactor, options.dilationWFactor = at["dilation"]
    options.fusedActivationFunction = activation
    return bytes([*at["stride"], *at["dilation"], options.padding, activation])


@many
@given(st.integers(1, 4), st.integers(1, 3000), st.integers(1, 200), activations, seeds)
def test_fully_connected(rows: int, terms: int, units: int, activation: int, seed: int) -> None:
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = activation
    one = OneOp(FULLY_CONNECTED, options, bytes([activation]))
    layer(one, (rows, terms), (units, terms), 0, (rows, units), seed)
    assert_equal(one.run(3, np.random.default_rng(seed)))


@many
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4), seeds, activations, st.integers(0, 3), st.booleans()
)
def test_add(shape: list[int], seed: int, activation: int, broadcast: int, constant: bool) -> None:
    rng = np.random.default_rng(seed)
    options = schema.AddOptionsT()
    options.fusedActivationFunction = activation
    other = list(shape)
    other[broadcast % len(shape)] = 1
    if constant:
        other = other[-2:]
    one = OneOp(ADD, options, bytes([activation])).values(tuple(shape), *quantization(rng))
    if constant:
        scale, zero = quantization(rng)
        one.constant(rng.integers(-128, 128, other, np.int8), np.array([scale]), zero)
    else:
        one.values(tuple(other), *quantization(rng))
    one.values(tuple(shape), *quantization(rng))
    assert_equal(one.run(4, rng))


def quantization(rng: np.random.Generator) -> tuple[float, int]:
    return float(scales_of(rng, 1)[0]), zero_point(rng)


@many
@given(
    placements(dilated=False),
    st.integers(1, 9),
    activations,
    seeds,
    st.sampled_from([AVERAGE_POOL_2D, MAX_POOL_2D]),
)
def test_pooling(at: dict[str, Any], depth: int, activation: int, seed: int, code: int) -> None:
    rng = np.random.default_rng(seed)
    options = schema.Pool2DOptionsT()
    options.padding = 0 if at["same"] else 1
    options.strideH, options.strideW = at["stride"]
    options.filterHeight, options.filterWidth = at["taps"]
    options.fusedActivationFunction = activation
    option_bytes = bytes([*at["stride"], *at["taps"], options.padding, activation])
    units = quantization(rng)
    one = OneOp(code, options, option_bytes).values((1, *at["size"], depth), *units)
    assert_equal(one.values((1, *at["count"], depth), *units).run(3, rng))


@many
@given(st.integers(1, 5), st.integers(1, 300), st.floats(-9, 2), st.sampled_from([0.25, 1.0, 3.0]), seeds)
def test_softmax(rows: int, classes: int, log_scale: float, beta: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    options = schema.SoftmaxOptionsT()
    options.beta = beta
    one = OneOp(SOFTMAX, options, struct.pack("<f", beta))
    one.values((rows, classes), np.exp(log_scale), zero_point(rng)).values((rows, classes), 1 / 256, -128)
    assert_equal(one.run(3, rng))


def test_reshape() -> None:
    options = schema.ReshapeOptionsT()
    options.newShape = [1, 12]
    one = OneOp(RESHAPE, options, b"").values((1, 2, 3, 2), 0.5, 3).values((1, 12), 0.5, 3)
    assert_equal(one.run(5, np.random.default_rng(0)))
