"""From float32 networks to int8 ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import interpreter
from ai_edge_litert import schema_py_generated as schema
from builder import NONE, Builder, small_network
from numpy.typing import NDArray
from regrow_host import tflite
from regrow_host.biases import Biases
from regrow_host.lower import lower
from regrow_host.quantize import LARGEST_BIAS, quantize
from regrow_host.ranges import least_error
from regrow_host.runner import Runner
from regrow_host.tflite import ModelError

Array = NDArray[Any]


def images(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 8, 8, 3)).astype(np.float32)


def run(data: bytes, x: Array) -> Array:
    """Real outputs for real inputs, of a float or an int8 network."""
    runner = interpreter.Interpreter(model_content=data)
    runner.allocate_tensors()
    source, output = runner.get_input_details()[0], runner.get_output_details()[0]
    results = []
    for sample in x:
        given = sample.reshape(source["shape"])
        if source["dtype"] == np.int8:
            scale, zero_point = source["quantization"]
            given = np.clip(np.rint(given / scale) + zero_point, -128, 127).astype(np.int8)
        runner.set_tensor(source["index"], given)
        runner.invoke()
        y = runner.get_tensor(output["index"])[0].astype(np.float32)
        if output["dtype"] == np.int8:
            scale, zero_point = output["quantization"]
            y = (y - zero_point) * scale
        results.append(y)
    return np.stack(results)


def test_the_result_is_int8_from_end_to_end_and_close() -> None:
    data = small_network("float32").bytes()
    steps = []
    result = quantize(data, images(30), lambda done, total: steps.append((done, total)))
    model = tflite.read(result)
    assert tflite.precision(model) == "int8"
    assert [model.tensors[i].dtype for i in (*model.inputs, *model.outputs)] == ["int8", "int8"]
    assert not {"QUANTIZE", "DEQUANTIZE"} & {each.name for each in model.operators}
    assert steps == [(i, 30) for i in range(1, 31)]
    assert len(lower(model).weights) == 7
    x = images(20, seed=1)
    assert np.abs(run(data, x) - run(result, x)).mean() < 0.02


def test_it_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    quantize(Builder((1, 8, 8, 3), "float32").conv(2).bytes(), images(2))
    assert "warn" not in "".join(capfd.readouterr()).lower()


@pytest.mark.parametrize("name", ["LEAKY_RELU", "RELU6", "RELU_N1_TO_1"])
def test_functions_that_the_quantizer_leaves_work_on_integers(name: str) -> None:
    net = Builder((1, 8, 8, 3), "float32").conv(8, activation=NONE)
    options = schema.LeakyReluOptionsT(0.1) if name == "LEAKY_RELU" else None
    shape = net.tensors[net.last].shape
    first = net.operator(name, [net.last], shape, options, 1).last
    data = net.conv(8, activation=NONE).add(first).operator(name, [net.last], shape, options, 1).bytes()
    result = quantize(data, images(30))
    model = tflite.read(result)
    assert [each.name for each in model.operators] == ["CONV_2D", name, "CONV_2D", "ADD", name]
    lower(model)
    x = images(20, seed=1)
    assert np.abs(run(data, x) - run(result, x)).mean() < 0.03


def test_ranges_leave_out_outliers_only() -> None:
    random = np.random.default_rng(0)
    values = np.append(random.normal(0, 1, 10000), 100)
    weights = np.append(np.full(10000, 100), 1)
    low, high = least_error(values, weights)
    assert -6 < low < -2
    assert 3 < high < 60
    even = random.uniform(-1, 3, 10000)
    np.testing.assert_allclose(least_error(even, np.ones(10000)), (even.min(), even.max()))
    assert least_error(np.zeros(5), np.ones(5)) == (0, 0)


def test_a_channel_without_weights_keeps_its_bias() -> None:
    net = Builder((1, 8, 8, 3), "float32").conv(4)
    _, weights, bias = net.operators[0].inputs
    values, biases = net.tensors[weights].data, net.tensors[bias].data
    assert values is not None
    assert biases is not None
    values[1], biases[1] = 0, 0.5
    result = quantize(net.bytes(), images(10))
    layer = tflite.read(result).operators[0]
    ints = tflite.read(result).tensors[layer.inputs[2]].data
    assert ints is not None
    assert abs(int(ints[1])) <= LARGEST_BIAS
    np.testing.assert_allclose(run(result, images(2))[..., 1], 0.5, atol=0.02)


def test_a_layer_that_no_sample_wakes_can_be_quantized() -> None:
    net = Builder((1, 8, 8, 3), "float32").conv(4)
    bias = net.tensors[net.operators[0].inputs[2]].data
    assert bias is not None
    bias[:] = -100
    result = quantize(net.conv(4).bytes(), images(10))
    np.testing.assert_allclose(run(result, images(2)), run(net.bytes(), images(2)), atol=0.02)


def test_biases_give_the_means_of_the_source() -> None:
    net = Builder((1, 8, 8, 3), "float32").conv(8).depthwise().conv(8, size=1).pool(size=8, stride=1)
    data, x, others = net.reshape(1, 8).dense(5).bytes(), images(60), images(60, seed=1)
    biases = Biases.of(data, x)
    plain = quantize(data, x)
    corrected = biases.corrected(plain)
    source = Runner(data)(others)
    errors = [np.abs((Runner(each)(others) - source).mean(axis=0)).mean() for each in (plain, corrected)]
    assert errors[1] < errors[0] / 2
    assert biases.corrected(corrected) == corrected


@pytest.mark.parametrize("mode", ["float16", "dynamic"])
def test_other_float_networks_go_through_float32(mode: Any) -> None:
    result = quantize(small_network(mode).bytes(), images(10))
    assert tflite.precision(tflite.read(result)) == "int8"


@pytest.mark.parametrize("samples", [images(0), images(3)[:, :4], np.zeros((3, 5), np.float32)])
def test_samples_of_the_wrong_shape_are_refused(samples: Array) -> None:
    with pytest.raises(ModelError, match="calibration samples have shape"):
        quantize(small_network("float32").bytes(), samples)


def test_an_int8_network_is_refused() -> None:
    with pytest.raises(ModelError, match="works on integers already"):
        quantize(small_network("int8").bytes(), images(2))


@pytest.mark.shared
def test_accuracy_of_the_image_classifier(shared: Path) -> None:
    data = (shared / "models" / "mlperf_ic_resnet8_float.tflite").read_bytes()
    with np.load(shared / "data" / "cifar10.npz") as arrays:
        calibration, x, y = (
            arrays["x_train"][:100],
            arrays["x_test"][:300],
            arrays["y_test"][:300].reshape(-1),
        )
    result = quantize(data, calibration.astype(np.float32))
    right = [(run(each, x.astype(np.float32)).argmax(1) == y).mean() for each in (data, result)]
    assert right[1] >= right[0] - 0.02
