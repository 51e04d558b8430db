"""Cross-layer equalization: the same network, whose int8 form loses less."""

import itertools
from typing import Any

import numpy as np
from builder import NONE, RELU, RELU6, Builder, small_network
from numpy.typing import NDArray
from regrow_host import quantize, ranges, tflite
from regrow_host.equalize import equalize
from regrow_host.runner import Runner
from regrow_host.tflite import Model

Array = NDArray[Any]


def images(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 8, 8, 3)).astype(np.float32)


def equalized(model: Model, x: Array) -> Model:
    data = tflite.build(model)
    with quantize.silence():
        return equalize(model, ranges.peaks(model, data, x[:, None], lambda done: None))


def bottlenecks(activation: int, mode: Any = "float32") -> Builder:
    """Inverted residuals, as MobileNetV2 is made of."""
    net = Builder((1, 8, 8, 3), mode).conv(8, activation=activation)
    for _ in range(2):
        skipped = net.last
        net.conv(24, size=1, activation=activation).depthwise(activation=activation)
        net.conv(8, size=1, activation=NONE).add(skipped)
    return net.pool(size=8, stride=1).reshape(1, 8).dense(5)


def unbalanced(model: Model, seed: int = 0) -> Model:
    """The same function with each hidden channel of the bottlenecks up to 50 times its size, or a 50th."""
    random = np.random.default_rng(seed)
    layers = [each for each in model.operators if each.name in tflite.WEIGHT_OPERATORS]
    for before, after in itertools.pairwise(layers):
        skipped = sum(before.outputs[0] in each.inputs for each in model.operators) > 1
        if skipped or before.outputs[0] != after.inputs[0]:
            continue
        _, weights, bias = before.layer_inputs
        factors = np.exp(random.uniform(-4, 4, model.tensors[bias].shape)).astype(np.float32)
        along = factors if before.name == "DEPTHWISE_CONV_2D" else factors[:, None, None, None]
        for index, scale in ((weights, along), (bias, factors), (after.layer_inputs[1], 1 / factors)):
            data = model.tensors[index].data
            assert data is not None
            model.tensors[index].data = data * scale
    return model


def test_outputs_stay_through_every_operator() -> None:
    for net in (small_network("float32"), bottlenecks(RELU), bottlenecks(RELU6)):
        model, x = net.model(), images(50)
        after = equalized(model, x)
        assert any(
            (a.data != b.data).any()
            for a, b in zip(model.tensors, after.tensors, strict=True)
            if a.data is not None
        )
        before, now = (Runner(tflite.build(each))(x) for each in (model, after))
        np.testing.assert_allclose(now, before, atol=1e-5)


def test_channels_that_saturate_stay_as_they_are() -> None:
    net = Builder((1, 8, 8, 3), "float32").conv(4, activation=RELU6)
    bias = net.tensors[net.operators[0].inputs[2]].data
    assert bias is not None
    bias[:] = 6, 0.01, 0.01, 0.01
    model, x = net.conv(4, size=1, activation=NONE).model(), images(50)
    after = equalized(model, x)
    weights = model.operators[0].inputs[1]
    same = [
        np.array_equal(a, b)
        for a, b in zip(model.tensors[weights].real(), after.tensors[weights].real(), strict=True)
    ]
    assert same[0]
    assert not all(same)
    np.testing.assert_allclose(*(Runner(tflite.build(each))(x) for each in (model, after)), atol=1e-5)


def test_an_unbalanced_network_loses_as_little_as_a_balanced_one() -> None:
    x, others = images(64), images(64, seed=1)
    data = tflite.build(unbalanced(bottlenecks(RELU).model()))
    source = Runner(data)(others)
    balanced = Runner(quantize.quantize(bottlenecks(RELU).bytes(), x))(others)
    plain, best = quantize.quantize(data, x), quantize.best(data, x)
    errors = [
        np.square(each - source).mean()
        for each in (balanced, Runner(plain)(others), Runner(best.integers)(others))
    ]
    assert errors[2] < errors[1] / 10
    assert errors[2] < errors[0] * 3 + 1e-5
    np.testing.assert_allclose(Runner(best.floats)(others), source, atol=1e-4)


def test_weights_keep_their_type() -> None:
    x, others = images(64), images(64, seed=1)
    model = bottlenecks(RELU, "float16").model()
    data = tflite.build(tflite.with_constants(model, unbalanced(tflite.read(tflite.to_float32(model)))))
    plain, best = quantize.quantize(data, x), quantize.best(data, x)
    assert tflite.precision(tflite.read(best.floats)) == "float16"
    source = Runner(data)(others)
    errors = [np.square(Runner(each)(others) - source).mean() for each in (plain, best.integers, best.floats)]
    assert errors[1] < errors[0] / 10
    assert errors[2] < errors[1] / 10


def test_a_network_that_gains_nothing_stays_as_it_is() -> None:
    data = Builder((1, 8, 8, 3), "float32").conv(4, activation=NONE).bytes()
    steps = []
    best = quantize.best(data, images(10), lambda done, total: steps.append((done, total)))
    assert best.floats == data
    assert steps == [(i, 30) for i in range(1, 31)]
