"""Every operator on the numpy executor against TFLite's reference kernels, byte for byte."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("ai_edge_litert.interpreter")

from networks import BLOCKS, OPERATORS, execute, lowered, reference, samples
from regrow_host import graphmodel, tflite
from regrow_host.tflite import Model

SAMPLES = 6
bounded = settings(
    max_examples=120,
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
