"""What converters spread over several operators becomes one, with the same outputs."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from builder import NONE, RELU, VALID, Builder, Mode, small_network
from regrow_host import tflite
from regrow_host.lower import lower
from regrow_host.runner import Engine
from regrow_host.simplify import simplified
from regrow_host.tflite import Tensor

MODES: tuple[Mode, ...] = ("float32", "float16", "int8")


def constant(net: Builder, values: list[int] | list[list[int]]) -> int:
    data = np.array(values, np.int32)
    return net.add_tensor(Tensor(f"constant_{len(net.tensors)}", data.shape, "int32", data=data))


def names(data: bytes) -> list[str]:
    return [each.name for each in tflite.read(data).operators if each.name != "DEQUANTIZE"]


def alike(net: Builder, error: float = 0) -> list[str]:
    """The operators that are left, once outputs are found to be the same, up to that relative error."""
    data = net.bytes()
    smaller = simplified(data, tflite.read(data))
    engines = [Engine(each, reference=True) for each in (data, smaller)]
    kind, shape = engines[0].inputs[0]["dtype"], engines[0].inputs[0]["shape"]
    x = (100 * np.random.default_rng(1).uniform(-1, 1, (8, *shape))).astype(kind)
    before, after = (engine.run([x])[0] for engine in engines)
    np.testing.assert_allclose(after, before, rtol=error, atol=100 * error)
    if net.mode == "int8":
        lower(tflite.read(smaller))
    return names(smaller)


@pytest.mark.parametrize("mode", MODES)
def test_the_arithmetic_of_shapes_is_done_beforehand(mode: Mode) -> None:
    """What Keras's Flatten becomes, in a file that writes 1 for every size that is not known."""
    net = Builder((1, 6, 6, 2), mode).conv(3)
    source = net.last
    shape, batch, wanted = (
        net.add_tensor(Tensor(f"shape_{i}", (size,), "int32")) for i, size in enumerate((4, 1, 2))
    )
    code = tflite.OPERATOR_CODES
    net.operators += [
        tflite.Operator(code["SHAPE"], (source,), (shape,), schema.ShapeOptionsT(schema.TensorType.INT32)),
        tflite.Operator(
            code["STRIDED_SLICE"],
            (shape, constant(net, [0]), constant(net, [1]), constant(net, [1])),
            (batch,),
            schema.StridedSliceOptionsT(),
        ),
        tflite.Operator(
            code["CONCATENATION"], (batch, constant(net, [108])), (wanted,), schema.ConcatenationOptionsT()
        ),
    ]
    net.last = source
    net.like_input("RESHAPE", (1, 1), schema.ReshapeOptionsT([]), (wanted,))
    net.tensors[net.last].shape_signature = (-1, -1)
    source = net.last
    options = schema.FullyConnectedOptionsT(NONE)
    net.layer("FULLY_CONNECTED", (5, 108), 0, (1, 5), options)
    assert alike(net) == ["CONV_2D", "RESHAPE", "FULLY_CONNECTED"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("paddings", "crop", "left"),
    [
        ([4, 6], 2, ["RESHAPE", "CONV_2D", "RESHAPE"]),  # SAME, 14 values in blocks of 4
        ([8, 2], 2, ["PAD", "RESHAPE", "CONV_2D", "RESHAPE"]),  # causal
        ([0, 2], 2, ["RESHAPE", "CONV_2D", "RESHAPE"]),  # VALID
    ],
)
def test_a_dilated_layer_of_a_line(mode: Mode, paddings: list[int], crop: int, left: list[str]) -> None:
    net = Builder((1, 14, 3), mode)
    block, length = 4, 14 + sum(paddings)
    places = constant(net, [block]), constant(net, [paddings])
    net.like_input("SPACE_TO_BATCH_ND", (4, length // 4, 3), schema.SpaceToBatchNDOptionsT(), places)
    net.like_input("EXPAND_DIMS", (4, 1, length // 4, 3), schema.ExpandDimsOptionsT(), (constant(net, [1]),))
    options = schema.Conv2DOptionsT(VALID, 1, 1, RELU, 1, 1)
    net.layer("CONV_2D", (5, 1, 3, 3), 0, (4, 1, length // 4 - 2, 5), options)
    net.reshape(4, length // 4 - 2, 5)
    shape = 1, length - 8 - crop, 5
    net.like_input(
        "BATCH_TO_SPACE_ND", shape, schema.BatchToSpaceNDOptionsT(), (places[0], constant(net, [[0, crop]]))
    )
    assert alike(net) == left


@pytest.mark.parametrize("mode", MODES)
def test_rows_and_columns_that_are_repeated(mode: Mode) -> None:
    """What Keras's UpSampling2D becomes."""
    net = Builder((1, 3, 4, 2), mode).conv(2)
    for axis, factor in ((1, 2), (2, 3)):
        _, *sizes, channels = net.tensors[net.last].shape
        sizes.insert(axis, 1)
        net.like_input(
            "EXPAND_DIMS", (1, *sizes, channels), schema.ExpandDimsOptionsT(), (constant(net, [axis + 1]),)
        )
        sizes[axis] = factor
        times = [factor if i == axis + 1 else 1 for i in range(5)]
        net.like_input("TILE", (1, *sizes, channels), schema.TileOptionsT(), (constant(net, times),))
        sizes[axis - 1 : axis + 1] = [sizes[axis - 1] * factor]
        net.reshape(1, *sizes, channels)
    net.conv(3)
    assert alike(net) == ["CONV_2D", "RESIZE_NEAREST_NEIGHBOR", "CONV_2D"]


@pytest.mark.parametrize("mode", MODES)
def test_shapes_that_nothing_works_in(mode: Mode) -> None:
    """Between two of Keras's Conv1D."""
    net = Builder((1, 1, 8, 3), mode).conv(4, size=1).reshape(1, 8, 4).reshape(1, 1, 8, 4).conv(4, size=1)
    net.reshape(1, 8, 4).reshape(1, 32).dense(3).reshape(1, 3)
    assert alike(net) == ["CONV_2D", "CONV_2D", "RESHAPE", "FULLY_CONNECTED", "RESHAPE"]


@pytest.mark.parametrize("name", ["conv", "depthwise", "dense"])
def test_a_batch_norm_behind_a_layer(name: str) -> None:
    net = Builder((1, 4, 4, 3), "float32").conv(6)
    {
        "conv": lambda: net.conv(5, activation=NONE).reshape(1, 16, 5),
        "depthwise": lambda: net.depthwise(activation=NONE),
        "dense": lambda: net.reshape(1, 96).dense(5),
    }[name]()
    shape = net.tensors[net.last].shape
    values = np.random.default_rng(2).normal(size=(2, shape[-1])).astype(np.float32)
    for operator, data, activation in (("MUL", values[0], NONE), ("ADD", values[1], RELU)):
        index = net.add_tensor(Tensor(f"values_{operator}", data.shape, "float32", data=data))
        options = (schema.MulOptionsT if operator == "MUL" else schema.AddOptionsT)(activation)
        net.operator(operator, [net.last, index], shape, options, 1)
    assert not {"ADD", "MUL"} & set(alike(net, 1e-5))


def test_what_is_simple_stays_as_it_is() -> None:
    data = small_network().bytes()
    assert simplified(data, tflite.read(data)) is data
