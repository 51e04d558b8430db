"""Reading, writing and changing `.tflite` files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import interpreter
from ai_edge_litert import schema_py_generated as schema
from builder import RELU, Builder, Mode, small_network
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from regrow_host import tflite
from regrow_host.tflite import ModelError, Tensor

Array = NDArray[Any]
MODES: list[Mode] = ["int8", "float32", "float16", "dynamic"]


def run(data: bytes, seed: int = 0) -> Array:
    """The network's output on random inputs, by TFLite's reference kernels."""
    runner = interpreter.Interpreter(
        model_content=data, experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF
    )
    runner.allocate_tensors()
    rng = np.random.default_rng(seed)
    for detail in runner.get_input_details():
        if detail["dtype"] == np.int8:
            x = rng.integers(-128, 128, detail["shape"], np.int8)
        else:
            x = rng.uniform(-1, 1, detail["shape"]).astype(np.float32)
        runner.set_tensor(detail["index"], x)
    runner.invoke()
    output: Array = runner.get_tensor(runner.get_output_details()[0]["index"])
    return output


def unchanged(data: bytes) -> bytes:
    """The file with each weight replaced by itself."""
    model = tflite.read(data)
    weights = tflite.weight_tensors(model)
    return tflite.with_weights(
        data,
        {w.tensor: tflite.NewWeights(model.tensors[w.tensor].data, w.scales) for w in weights},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_built_file_reads_back_the_same(mode: Mode) -> None:
    net = small_network(mode)
    model = tflite.read(net.bytes())
    assert [each.name for each in model.operators] == [each.name for each in net.operators]
    assert (model.inputs, model.outputs) == (tuple(net.inputs), (net.last,))
    for read, built in zip(model.tensors, net.tensors, strict=True):
        assert (read.name, read.shape, read.dtype, read.axis) == (
            built.name,
            built.shape,
            built.dtype,
            built.axis,
        )
        np.testing.assert_array_equal(read.scales, built.scales)
        np.testing.assert_array_equal(read.zero_points, built.zero_points)
        if built.data is None:
            assert read.data is None
        else:
            np.testing.assert_array_equal(read.data, built.data)


def test_buffer_says_where_the_data_stands() -> None:
    data = small_network().bytes()
    for tensor in tflite.read(data).tensors:
        if tensor.data is not None and tensor.buffer is not None:
            offset, size = tensor.buffer
            assert data[offset : offset + size] == tensor.data.tobytes()
            assert offset % tflite.BUFFER_ALIGNMENT == 0


@pytest.mark.parametrize("mode", MODES)
def test_weights_are_numbered_in_the_order_of_use(mode: Mode) -> None:
    net = small_network(mode)
    weights = tflite.weight_tensors(net.model())
    assert tflite.precision(net.model()) == mode
    assert [each.number for each in weights] == list(range(7))
    assert [each.kind for each in weights] == [
        "conv",
        "depthwise",
        "conv",
        "conv",
        "depthwise",
        "dense",
        "dense",
    ]
    assert [each.channels for each in weights] == [8, 8, 8, 12, 24, 16, 5]
    assert [each.inner for each in weights] == [27, 1, 8, 72, 1, 24, 16]
    assert any(each.levels is not None for each in weights) == (mode in ("int8", "dynamic"))


def test_weights_used_twice_are_one_tensor() -> None:
    net = Builder((1, 4, 4, 2)).conv(2)
    net.operator(
        "CONV_2D", [net.last, *net.operators[0].inputs[1:]], (1, 4, 4, 2), net.operators[0].options, 1
    )
    assert len(tflite.weight_tensors(net.model())) == 1


def test_values_are_levels_times_scales() -> None:
    for weights in tflite.weight_tensors(small_network().model()):
        assert weights.levels is not None
        assert weights.scales is not None
        channels = np.arange(weights.count) // weights.inner % weights.channels
        np.testing.assert_array_equal(
            weights.values.reshape(-1), weights.levels.reshape(-1) * weights.scales[channels]
        )


@pytest.mark.parametrize("mode", MODES)
def test_equal_weights_give_an_equal_network(mode: Mode) -> None:
    data = small_network(mode).bytes()
    np.testing.assert_array_equal(run(data), run(unchanged(data)))


def test_new_scales_keep_real_weights_and_biases() -> None:
    """Levels twice as coarse at twice the scale are the same real weights when the levels are even."""
    data = Builder((1, 6, 6, 4)).conv(8, activation=RELU).bytes()
    (weights,) = tflite.weight_tensors(tflite.read(data))
    assert weights.levels is not None
    assert weights.scales is not None
    even = (weights.levels // 2 * 2).astype(np.int8)
    fine = tflite.with_weights(data, {weights.tensor: tflite.NewWeights(even, weights.scales)})
    halves = tflite.NewWeights((even // 2).astype(np.int8), weights.scales * 2)
    coarse = tflite.with_weights(data, {weights.tensor: halves})
    before, after = (tflite.read(each).tensors[-2] for each in (fine, coarse))
    np.testing.assert_allclose(before.real(), after.real(), atol=float(after.scales.max()))
    assert np.abs(run(fine).astype(int) - run(coarse)).max() <= 1


def test_a_bias_that_overflows_is_refused() -> None:
    data = Builder((1, 6, 6, 4)).conv(8).bytes()
    (weights,) = tflite.weight_tensors(tflite.read(data))
    assert weights.scales is not None
    with pytest.raises(ModelError, match="does not fit 32 bits"):
        tflite.with_weights(data, {weights.tensor: tflite.NewWeights(weights.levels, weights.scales / 2**30)})  # type: ignore[arg-type]


def test_operators_without_inputs_are_kept() -> None:
    model = small_network().model()
    model.operators.insert(0, tflite.Operator(tflite.OPERATOR_CODES["CALL_ONCE"], (), ()))
    assert tflite.read(unchanged(tflite.build(model))).operators[0].name == "CALL_ONCE"


def test_new_weights_must_have_shape_dtype_and_scales() -> None:
    data = small_network().bytes()
    first = tflite.weight_tensors(tflite.read(data))[0]
    assert first.levels is not None
    for values, scales in (
        (first.levels[:1], first.scales),
        (first.values, first.scales),
        (first.levels, None),
        (first.levels, np.ones(3, np.float32)),
    ):
        with pytest.raises(ModelError, match=f"tensor {first.tensor}"):
            tflite.with_weights(data, {first.tensor: tflite.NewWeights(values, scales)})
    with pytest.raises(ModelError, match="no weight tensor"):
        tflite.with_weights(data, {0: tflite.NewWeights(first.levels, first.scales)})


@pytest.mark.parametrize("mode", ["float16", "dynamic"])
def test_to_float32_gives_an_equivalent_float_network(mode: Mode) -> None:
    data = small_network(mode).bytes()
    plain = tflite.to_float32(tflite.read(data))
    assert tflite.precision(tflite.read(plain)) == "float32"
    assert not [each for each in tflite.read(plain).operators if each.name == "DEQUANTIZE"]
    before, after = tflite.weight_tensors(tflite.read(data)), tflite.weight_tensors(tflite.read(plain))
    for each, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(each.values, other.values)
    np.testing.assert_allclose(run(data), run(plain), atol=1e-6 if mode == "float16" else 0.02)


def test_no_tflite_is_refused() -> None:
    for data in (b"", b"TFL3", b"PK\x03\x04" * 100, b"\x00" * 1000):
        with pytest.raises(ModelError, match=r"not a \.tflite"):
            tflite.read(data)


def test_every_truncation_is_refused() -> None:
    data = small_network().bytes()
    for size in range(0, len(data) - 64, 37):
        with pytest.raises(ModelError):
            tflite.read(data[:size])


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_bytes_are_read_or_refused(changes: list[tuple[float, int]]) -> None:
    damaged = bytearray(SMALL)
    for place, value in changes:
        damaged[8 + int(place * (len(damaged) - 8))] = value
    try:
        model = tflite.read(bytes(damaged))
        tflite.weight_tensors(model)
        tflite.precision(model)
    except ModelError:
        pass


SMALL = Builder((1, 4, 4, 2)).conv(2).reshape(1, 32).dense(3).softmax().bytes()


def test_a_file_that_refers_to_itself_does_not_hang() -> None:
    """20,000 tensors that are one table with a shape of 20,000 numbers: 400 million numbers in 160 KB."""
    model = Builder((1, 2)).model()
    model.tensors.append(Tensor("long", (1,) * 20000, "int8"))
    model.tensors.extend(Tensor("", (), "int8") for _ in range(20000))
    data = bytearray(tflite.build(model))
    root = schema.Model.GetRootAs(data)
    table = root.Subgraphs(0)._tab
    start = table.Vector(table.Offset(4))
    target = start + 4 + int.from_bytes(data[start + 4 : start + 8], "little")
    for i in range(2, 20002):
        place = start + 4 * i
        data[place : place + 4] = (target - place).to_bytes(4, "little")
    with pytest.raises(ModelError, match="without end"):
        tflite.read(bytes(data))


@pytest.mark.shared
def test_the_shared_models_survive_reading_and_writing(shared: Path) -> None:
    for path in sorted((shared / "models").glob("*.tflite")):
        data = path.read_bytes()
        expected = run(data)
        np.testing.assert_array_equal(expected, run(tflite.build(tflite.read(data))), err_msg=path.name)
        np.testing.assert_array_equal(expected, run(unchanged(data)), err_msg=path.name)


@pytest.mark.shared
def test_the_shared_models_have_the_known_weights(shared: Path) -> None:
    counts = {"ad_autoencoder": (10, 264192), "ic_resnet8": (10, 77360), "kws_dscnn": (10, 22016)}
    for path in sorted((shared / "models").glob("mlperf_*.tflite")):
        weights = tflite.weight_tensors(tflite.read(path.read_bytes()))
        for name, expected in counts.items():
            if name in path.name:
                assert (len(weights), sum(each.count for each in weights)) == expected
