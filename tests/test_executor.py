"""The numpy executor against TFLite's int8 reference kernels, bit for bit."""

import struct
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import interpreter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from regrow import quant
from regrow.errors import PackError
from regrow.executor import Executor
from regrow.graph import ACTIVATION, CONSTANT, WEIGHTS, Graph, Op, Tensor
from regrow.kernels import base
from regrow.reader import Reader
from regrow_host import graphfile, graphmodel, lower, tflite

Array = NDArray[Any]

ADD, AVERAGE_POOL_2D, CONV_2D, DEPTHWISE_CONV_2D = 0, 1, 3, 4
FULLY_CONNECTED, MAX_POOL_2D, RESHAPE, SOFTMAX = 9, 17, 22, 25
INT8 = np.dtype(np.int8)
SAMPLES = 3


class Levels:
    """Weights that stand in memory."""

    def __init__(self, levels: Array, scales: Array) -> None:
        self.levels, self.scales = levels.reshape(-1), scales
        self.count = levels.size
        self.rewind()

    def rewind(self) -> None:
        self.position = 0

    def read_levels(self, out: Array) -> None:
        out[:] = self.levels[self.position : self.position + out.size]
        self.position += out.size


class Builder:
    """Draws the tensors of a network of one op at random."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors: list[Tensor] = []
        self.weights: dict[int, tuple[Array, Array]] = {}

    def scales(self, count: int) -> Array:
        return np.exp(self.rng.uniform(-6, -2, count)).astype(np.float32)

    def zero_point(self) -> int:
        return int(self.rng.choice([-128, 127, 0, self.rng.integers(-128, 128)]))

    def add(self, tensor: Tensor) -> None:
        self.tensors.append(tensor)

    def values(self, shape: Sequence[int], scale: float | None = None, zero_point: int | None = None) -> None:
        scale = float(np.float32(scale or self.scales(1)[0]))
        zero_point = self.zero_point() if zero_point is None else zero_point
        self.add(Tensor(ACTIVATION, INT8, tuple(shape), scale, zero_point))

    def layer(self, x: Sequence[int], filters: Sequence[int], axis: int, y: Sequence[int]) -> None:
        """Input, filter (a scale per channel or one), bias, and an output that the sums fill."""
        self.values(x)
        channels = filters[axis]
        scales = self.scales(channels if self.rng.random() < 0.7 else 1)
        levels = self.rng.integers(-127, 128, tuple(filters), np.int8)
        self.weights[0] = levels, scales
        self.add(Tensor(WEIGHTS, INT8, tuple(filters)))
        bias = self.rng.integers(-20000, 20000, channels, np.int32)
        self.add(Tensor(CONSTANT, bias.dtype, bias.shape, data=bias))
        typical = self.tensors[0].scale * scales.mean() * np.sqrt(levels.size / channels) * 74 * 74
        self.values(y, typical / 60 * np.exp(self.rng.uniform(-2, 2)))

    def check(self, code: int, options: bytes) -> None:
        """The op on these tensors gives the same by the executor and by the reference kernels."""
        last = len(self.tensors) - 1
        inputs = tuple(i for i in range(last) if self.tensors[i].kind == ACTIVATION)
        op = Op(code, tuple(range(last)), (last,), options)
        graph = Graph(tuple(self.tensors), (op,), inputs, (last,), max(t.nbytes for t in self.tensors))
        graph.check()
        x = [self.rng.integers(-128, 128, (SAMPLES, *self.tensors[i].shape), np.int8) for i in inputs]
        found = Executor(graph, lambda n: Levels(*self.weights[n])).run(x)[0]
        np.testing.assert_array_equal(found, reference(graphmodel.to_tflite(graph, self.weights), x))


def reference(model: bytes, inputs: Sequence[Array]) -> Array:
    """What TFLite's reference kernels give, (samples, *shape), for one output."""
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


seeds = st.integers(0, 2**32 - 1)
activations = st.integers(0, 3)
sizes = st.integers(1, 9)
many = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
Windows = tuple[tuple[int, int], tuple[int, int], tuple[int, int], bytes]


@st.composite
def windows(draw: Callable[..., Any], dilated: bool) -> Windows:
    """Sizes of input, filter and output, and the option bytes up to the padding."""
    valid = draw(st.integers(0, 1))
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    stride, dilation = draw(pair), draw(pair) if dilated else (1, 1)
    taps = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    reach = [(t - 1) * d for t, d in zip(taps, dilation, strict=True)]
    given = [draw(st.integers(valid * r + 1, valid * r + 9)) for r in reach]
    count = [-(-(n - valid * r) // s) for n, r, s in zip(given, reach, stride, strict=True)]
    options = bytes([*stride, *(dilation if dilated else taps), valid])
    return (given[0], given[1]), taps, (count[0], count[1]), options


@many
@given(windows(dilated=True), sizes, sizes, activations, seeds)
def test_conv_2d(at: Windows, depth: int, channels: int, activation: int, seed: int) -> None:
    given, taps, count, options = at
    net = Builder(seed)
    net.layer((1, *given, depth), (channels, *taps, depth), 0, (1, *count, channels))
    net.check(CONV_2D, options + bytes([activation]))


@many
@given(windows(dilated=True), sizes, st.integers(1, 3), activations, seeds)
def test_depthwise_conv_2d(at: Windows, depth: int, multiplier: int, activation: int, seed: int) -> None:
    given, taps, count, options = at
    channels = depth * multiplier
    net = Builder(seed)
    net.layer((1, *given, depth), (1, *taps, channels), 3, (1, *count, channels))
    net.check(DEPTHWISE_CONV_2D, options + bytes([activation]))


@many
@given(st.integers(1, 3000), st.integers(1, 200), activations, seeds)
def test_fully_connected(terms: int, units: int, activation: int, seed: int) -> None:
    net = Builder(seed)
    net.layer((1, terms), (units, terms), 0, (1, units))
    net.check(FULLY_CONNECTED, bytes([activation]))


@many
@given(st.lists(sizes, min_size=2, max_size=4), st.integers(0, 3), st.booleans(), activations, seeds)
def test_add(shape: list[int], stretched: int, constant: bool, activation: int, seed: int) -> None:
    net = Builder(seed)
    net.values(shape)
    other = [1 if axis == stretched else size for axis, size in enumerate(shape)]
    if constant:
        data = net.rng.integers(-128, 128, other[-2:], np.int8)
        net.add(Tensor(CONSTANT, INT8, data.shape, float(net.scales(1)[0]), net.zero_point(), data=data))
    else:
        net.values(other)
    net.values(shape)
    net.check(ADD, bytes([activation]))


@many
@given(st.sampled_from([AVERAGE_POOL_2D, MAX_POOL_2D]), windows(dilated=False), sizes, activations, seeds)
def test_pooling(code: int, at: Windows, depth: int, activation: int, seed: int) -> None:
    given, _, count, options = at
    net = Builder(seed)
    net.values((1, *given, depth))
    net.values((1, *count, depth), net.tensors[0].scale, net.tensors[0].zero_point)
    net.check(code, options + bytes([activation]))


@many
@given(st.integers(1, 5), st.integers(1, 300), st.floats(-9, 2), st.sampled_from([0.25, 1.0, 3.0]), seeds)
def test_softmax(rows: int, classes: int, log_scale: float, beta: float, seed: int) -> None:
    net = Builder(seed)
    net.values((rows, classes), float(np.exp(log_scale)))
    net.values((rows, classes), 1 / 256, -128)
    net.check(SOFTMAX, struct.pack("<f", beta))


def test_reshape() -> None:
    net = Builder(0)
    net.values((1, 2, 3, 2), 0.5, 3)
    net.values((1, 12), 0.5, 3)
    net.check(RESHAPE, b"")


def test_sums_beyond_float32_are_exact() -> None:
    """All products at their largest, of one sign: 2^14 * 9216 needs 28 bits."""
    net = Builder(1)
    net.layer((1, 3, 3, 1024), (2, 3, 3, 1024), 0, (1, 1, 1, 2))
    net.weights[0] = np.full((2, 3, 3, 1024), -128, np.int8), net.weights[0][1]
    net.weights[0][0].reshape(-1)[::7] = -127
    net.check(CONV_2D, bytes([1, 1, 1, 1, 1, 0]))


def test_small_tiles_and_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "TILE", 50)
    monkeypatch.setattr(base, "PIECE", 500)
    net = Builder(2)
    net.layer((1, 9, 8, 3), (5, 3, 3, 3), 0, (1, 5, 4, 5))
    net.check(CONV_2D, bytes([2, 2, 1, 1, 0, 0]))
    net = Builder(3)
    net.layer((1, 9, 8, 3), (1, 3, 3, 6), 3, (1, 5, 4, 6))
    net.check(DEPTHWISE_CONV_2D, bytes([2, 2, 1, 1, 0, 0]))
    net = Builder(4)
    net.layer((1, 30), (11, 30), 0, (1, 11))
    net.check(FULLY_CONNECTED, bytes([0]))


def test_memory_does_not_grow_with_the_weights() -> None:
    """4 million weights, 32 MB as float64."""
    x = Tensor(ACTIVATION, INT8, (1, 2048), 0.5, 0)
    matrix = Tensor(WEIGHTS, INT8, (2048, 2048))
    y = Tensor(ACTIVATION, INT8, (1, 2048), 0.5, 0)
    graph = Graph((x, matrix, y), (Op(FULLY_CONNECTED, (0, 1), (2,), bytes(1)),), (0,), (2,), 4096)
    weights = Levels(np.ones(1 << 22, np.int8), np.ones(1, np.float32))
    executor = Executor(graph, lambda _: weights)
    given_input = np.ones((1, 1, 2048), np.int8)
    tracemalloc.start()
    executor.run([given_input])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20


def test_samples_beyond_a_batch_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Builder(5)
    net.layer((1, 40), (7, 40), 0, (1, 7))
    net.check(FULLY_CONNECTED, bytes([0]))
    monkeypatch.setattr("regrow.executor.ACTIVATIONS", 100)
    net.check(FULLY_CONNECTED, bytes([0]))


def small_graph() -> Graph:
    """Convolution, then softmax over its reshaped output."""
    x = Tensor(ACTIVATION, INT8, (1, 4, 4, 2), 0.5, -3, offset=0)
    taps = Tensor(WEIGHTS, INT8, (3, 4, 4, 2), number=0)
    bias = Tensor(CONSTANT, np.dtype(np.int32), (3,), data=np.arange(3, dtype=np.int32))
    y = Tensor(ACTIVATION, INT8, (1, 1, 1, 3), 0.25, 4, offset=32)
    flat = Tensor(ACTIVATION, INT8, (1, 3), 0.25, 4, offset=32)
    probabilities = Tensor(ACTIVATION, INT8, (1, 3), 1 / 256, -128, offset=0)
    ops = (
        Op(CONV_2D, (0, 1, 2), (3,), bytes([1, 1, 1, 1, 1, 0])),
        Op(RESHAPE, (3,), (4,)),
        Op(SOFTMAX, (4,), (5,), struct.pack("<f", 1)),
    )
    return Graph((x, taps, bias, y, flat, probabilities), ops, (0,), (5,), 36)


def parse(data: bytes) -> Graph:
    return Graph.parse(Reader(BytesIO(data), 0, len(data)))


def test_a_graph_is_read_as_written() -> None:
    graph = small_graph()
    data = graphfile.write(graph)
    again = parse(data)
    assert graphfile.write(again) == data
    assert (again.ops, again.inputs, again.outputs, again.arena) == (graph.ops, (0,), (5,), 36)


biases = st.builds(lambda n, shift: n << shift, st.integers(-(2**20), 2**20 - 1), st.integers(0, 11))


@given(st.lists(biases, min_size=3, max_size=3))
def test_biases_are_read_as_written(values: list[int]) -> None:
    graph = small_graph()
    bias = replace(graph.tensors[2], data=np.array(values, np.int32))
    data = graphfile.write(replace(graph, tensors=(*graph.tensors[:2], bias, *graph.tensors[3:])))
    again = parse(data).tensors[2].data
    assert again is not None
    assert again.tolist() == values


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.data())
def test_damaged_graphs_are_refused_or_whole(data: st.DataObject) -> None:
    whole = graphfile.write(small_graph())
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole)
    for _ in range(data.draw(st.integers(1, 3))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        graph = parse(bytes(damaged))
    except PackError:
        return
    graph.check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.replace(bytes([RESHAPE, 1, 4]), bytes([99, 1, 4])), "operator code 99"),
        (
            lambda data: data.replace(bytes([RESHAPE, 1, 4]), bytes([RESHAPE, 1, 5])),
            "nothing before it gives",
        ),
        (
            lambda data: data.replace(bytes([RESHAPE, 1, 4]), bytes([RESHAPE, 1, 90])),
            "nothing before it gives",
        ),
        (lambda data: data + b"\0", "belong to nothing"),
        (lambda data: b"\2" + data[1:], "form 2"),
        (lambda data: data[:1] + b"\xff\x7f" + data[2:], "more tensors"),
        (lambda data: data[:7] + b"\x22" + data[8:], "does not fit the arena"),
    ],
)
def test_what_is_wrong_with_a_graph_is_named(change: Callable[[bytes], bytes], message: str) -> None:
    whole = graphfile.write(small_graph())
    changed = change(whole)
    assert changed != whole
    with pytest.raises(PackError, match=message):
        parse(changed)


def _images(shared: Path, name: str) -> Array:
    """Inputs of an MLPerf Tiny model, in real units as data/README.md says."""
    if name == "ic_resnet8":
        return np.asarray(np.load(shared / "data/cifar10.npz")["x_test"][:120].astype(np.float32))
    if name == "kws_dscnn":
        return np.asarray(np.load(shared / "data/kws01.npz")["x_test"][:200])
    if name == "vww_mobilenetv1_025":
        return np.asarray(np.load(shared / "data/vww01.npz")["x_test"][:100].astype(np.float32) / 255)
    clip = np.load(shared / "data/ad01.npz")["x_test"][0].astype(np.float32)
    return np.stack([clip[i : i + 5].reshape(-1) for i in range(196)])


@pytest.mark.shared
@pytest.mark.parametrize("name", ["ic_resnet8", "kws_dscnn", "vww_mobilenetv1_025", "ad_autoencoder"])
def test_real_networks(shared: Path, name: str) -> None:
    data = (shared / f"models/mlperf_{name}_int8.tflite").read_bytes()
    lowered = lower.lower(tflite.read(data))
    weights = {each.number: Levels(each.levels, each.scales) for each in lowered.weights}
    executor = Executor(lowered.graph, weights.__getitem__)
    info = executor.inputs[0]
    x = quant.quantize(_images(shared, name), info.scale, info.zero_point, info.dtype)
    x = x.reshape(-1, *info.shape)
    assert len(np.unique(x)) > 100
    np.testing.assert_array_equal(executor.run([x])[0], reference(data, [x]))
