"""Every operator on the numpy executor against TFLite's reference kernels, byte for byte."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import BLOCKS, OPERATORS, Net, Source, execute, lowered, reference, samples, streaming
from regrow.executor import Executor
from regrow.graph import ACTIVATION, VARIABLE
from regrow_host import graphmodel, tflite
from regrow_host.tflite import Model, Tensor

SAMPLES = 6
bounded = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def hold(model: Model, count: int = SAMPLES) -> None:
    x = samples(model, count)
    for found, expected in zip(execute(model, x), reference(model, x), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def hold_decoded(model: Model) -> None:
    """The graph made into a `.tflite` again gives the same."""
    x = samples(model, SAMPLES)
    again = tflite.read(graphmodel.to_tflite(*lowered(model)))
    for found, expected in zip(reference(again, x), reference(model, x), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "SUM"])
@settings(bounded, max_examples=25)
@given(data=st.data())
def test_an_operator_is_decoded(name: str, data: st.DataObject) -> None:
    hold_decoded(data.draw(OPERATORS[name]))


@pytest.mark.parametrize("name", BLOCKS)
@settings(bounded, max_examples=10)
@given(data=st.data())
def test_a_block_is_decoded(name: str, data: st.DataObject) -> None:
    hold_decoded(data.draw(BLOCKS[name]))


@pytest.mark.parametrize("name", OPERATORS)
@bounded
@given(data=st.data())
def test_an_operator_equals_tflite(name: str, data: st.DataObject) -> None:
    hold(data.draw(OPERATORS[name]))


@pytest.mark.parametrize("name", BLOCKS)
@settings(bounded, max_examples=25)
@given(data=st.data())
def test_a_block_of_a_known_network_equals_tflite(name: str, data: st.DataObject) -> None:
    hold(data.draw(BLOCKS[name]), 5)


@bounded
@given(data=st.data())
def test_sum_of_int8_is_that_of_uint8_moved_by_128(data: st.DataObject) -> None:
    """TFLite's SUM depends on distances to zero points only; its reference kernel takes int8 for uint8."""
    model = data.draw(OPERATORS["SUM"])
    x = samples(model, SAMPLES)
    expected = reference(model, x)[0]
    for tensor in (each for each in model.tensors if each.dtype == "uint8"):
        tensor.dtype = "int8"
        tensor.zero_points = tensor.zero_points - 128
    np.testing.assert_array_equal(
        execute(model, [(x[0] ^ 0x80).view(np.int8)])[0], (expected ^ 0x80).view(np.int8)
    )


def test_a_computed_shape_is_not_needed() -> None:
    """What TensorFlow writes for a flatten: SHAPE, STRIDED_SLICE and PACK give the shape of a RESHAPE."""
    net = Net(1)
    x = net.conv(net.input((1, 4, 4, 2)), 3)
    parts = [
        net.tensor(Tensor(name, shape, "int32"))
        for name, shape in (("all", (4,)), ("first", ()), ("new", (2,)))
    ]
    net.op("SHAPE", [x], parts[0], schema.ShapeOptionsT(schema.TensorType.INT32))
    places = [net.integers(each) for each in ([0], [1], [1])]
    net.op("STRIDED_SLICE", [parts[0], *places], parts[1], schema.StridedSliceOptionsT(0, 0, 0, 0, 1, False))
    net.op("PACK", [parts[1], net.integers(48)], parts[2], schema.PackOptionsT(2, 0))
    flat = net.op("RESHAPE", [x, parts[2]], net.like(x, (1, 48)), schema.ReshapeOptionsT([]))
    hold(net.model(net.dense(flat, 3)))


def test_state_stays_between_runs_until_it_is_reset() -> None:
    model = streaming(Net(5, calm=True), 4)
    x = samples(model, 8)
    expected = reference(model, x)
    graph, weights = lowered(model)
    runner = Executor(graph, {n: Source(*each) for n, each in weights.items()}.__getitem__)
    for _ in range(2):
        halves = [runner.run([x[0][:3]]), runner.run([x[0][3:]])]
        for i, whole in enumerate(expected):
            np.testing.assert_array_equal(np.concatenate([half[i] for half in halves]), whole)
        runner.reset()


def test_variables_have_bytes_of_their_own() -> None:
    graph, _ = lowered(streaming(Net(2), 3))
    variables = [t for t in graph.tensors if t.kind == VARIABLE]
    assert len(variables) == 2
    for variable in variables:
        for other in graph.tensors:
            if other is not variable and other.kind in (ACTIVATION, VARIABLE):
                apart = other.offset + other.nbytes <= variable.offset
                assert apart or variable.offset + variable.nbytes <= other.offset


def test_variables_that_no_byte_fills_are_refused() -> None:
    model = streaming(Net(3), 3)
    value = model.subgraphs[1].tensors[1]
    assert value.data is not None
    value.data.reshape(-1)[0] ^= 1
    with pytest.raises(
        tflite.ModelError, match=r"\(READ_VARIABLE\): it uses the variable /state_., which starts with"
    ):
        lowered(model)
    model = streaming(Net(3), 3)
    model.operators[:] = [op for op in model.operators if op.name != "CALL_ONCE"]
    with pytest.raises(tflite.ModelError, match="which nothing initializes"):
        lowered(model)
