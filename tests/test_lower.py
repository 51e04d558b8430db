"""Lowering to the device graph: equal to TFLite bit for bit, planned without overlaps, refusing the rest."""

import contextlib
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import interpreter
from ai_edge_litert import schema_py_generated as schema
from builder import NONE, RELU, RELU6, SAME, VALID, Builder, small_network
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from regrow.executor import Executor
from regrow.graph import Graph
from regrow.reader import Reader
from regrow_host import graphmodel, tflite
from regrow_host.lower import Lowered, graph_bytes, lower, strip_ends
from regrow_host.operators import OPERATORS
from regrow_host.tflite import Model, ModelError

Array = NDArray[Any]
Weights = dict[int, tuple[Array, Array]]

INT8 = np.dtype(np.int8)


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


def weights_of(lowered: Lowered) -> Weights:
    weights: Weights = {}
    for each in lowered.weights:
        assert each.levels is not None
        assert each.scales is not None
        weights[each.number] = each.levels, each.scales
    return weights


def parse(data: bytes) -> Graph:
    return Graph.parse(Reader(io.BytesIO(data), 0, len(data)))


def execute(graph: Graph, weights: Weights, x: Array) -> Array:
    sources = {number: Source(*each) for number, each in weights.items()}
    return Executor(graph, sources.__getitem__).run([x])[0]


def reference(data: bytes, x: Array) -> Array:
    runner = interpreter.Interpreter(
        model_content=data, experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF
    )
    runner.allocate_tensors()
    results = []
    for sample in x:
        runner.set_tensor(runner.get_input_details()[0]["index"], sample)
        runner.invoke()
        results.append(runner.get_tensor(runner.get_output_details()[0]["index"]))
    return np.stack(results)


def samples(graph: Graph, count: int, seed: int = 0) -> Array:
    shape = graph.tensors[graph.inputs[0]].shape
    return np.random.default_rng(seed).integers(-128, 128, (count, *shape), np.int8)


def coarser(weights: Weights, factor: float) -> Weights:
    """About the same real weights, in steps that are wider by the factor."""
    return {
        number: (np.rint(levels / factor).astype(np.int8), (scales * factor).astype(np.float32))
        for number, (levels, scales) in weights.items()
    }


def hold_together(data: bytes, count: int) -> None:
    """The executor, TFLite and the graph turned back into a `.tflite` agree, also with other weights."""
    lowered = lower(tflite.read(data))
    weights = weights_of(lowered)
    graph = parse(graph_bytes(lowered))
    assert (graph.ops, graph.inputs, graph.outputs) == (
        lowered.graph.ops,
        lowered.graph.inputs,
        lowered.graph.outputs,
    )
    x = samples(graph, count)
    expected = reference(data, x)
    np.testing.assert_array_equal(execute(graph, weights, x), expected)
    np.testing.assert_array_equal(reference(graphmodel.to_tflite(graph, weights), x), expected)

    others = coarser(weights, 1.7)
    changed = tflite.with_weights(
        data, {each.tensor: tflite.NewWeights(*others[each.number]) for each in lowered.weights}
    )
    graph = parse(graph_bytes(lower(tflite.read(changed))))
    expected = reference(changed, x)
    np.testing.assert_array_equal(execute(graph, others, x), expected)
    np.testing.assert_array_equal(reference(graphmodel.to_tflite(graph, others), x), expected)


@pytest.mark.parametrize("seed", range(3))
def test_small_networks_equal_tflite(seed: int) -> None:
    hold_together(small_network(seed=seed).bytes(), 4)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_random_chains_equal_tflite(data: st.DataObject) -> None:
    side, depth = data.draw(st.integers(5, 9)), data.draw(st.integers(1, 4))
    net = Builder((1, side, side + 1, depth), seed=data.draw(st.integers(0, 2**32 - 1)))
    for _ in range(data.draw(st.integers(1, 3))):
        if min(net.tensors[net.last].shape[1:3]) < 3:
            break
        padding, activation = (
            data.draw(st.sampled_from([SAME, VALID])),
            data.draw(st.sampled_from([NONE, RELU, RELU6])),
        )
        stride = data.draw(st.integers(1, 2))
        if data.draw(st.booleans()):
            net.conv(data.draw(st.integers(1, 6)), data.draw(st.integers(1, 3)), stride, padding, activation)
        else:
            net.depthwise(3, stride, padding, activation, multiplier=data.draw(st.integers(1, 2)))
    hold_together(net.dense(data.draw(st.integers(1, 9))).softmax().bytes(), 2)


@pytest.mark.shared
def test_the_shared_int8_models_equal_tflite(shared: Path) -> None:
    for path in sorted((shared / "models").glob("*int8.tflite")):
        hold_together(path.read_bytes(), 3)


def test_equal_weights_give_the_same_network() -> None:
    model = small_network().model()
    same = {
        each.tensor: tflite.NewWeights(each.levels, each.scales)
        for each in tflite.weight_tensors(model)
        if each.levels is not None
    }
    changed = tflite.with_weights(tflite.build(model), same)
    assert graph_bytes(lower(tflite.read(changed))) == graph_bytes(lower(model))


def test_biases_take_few_bytes_and_move_no_output_by_a_level() -> None:
    """Where weights change, biases are rounded to less than a level of the output."""
    data = small_network().bytes()
    before, others = lower(tflite.read(data)), {}
    for each in before.weights:
        levels, scales = coarser(weights_of(before), 1.7)[each.number]
        others[each.tensor] = tflite.NewWeights(levels, scales)
    after = lower(tflite.read(tflite.with_weights(data, others)))
    assert len(graph_bytes(after)) < len(graph_bytes(before))
    for op in after.graph.ops:
        if len(op.inputs) == 3:
            x, weights, bias = (after.graph.tensors[i] for i in op.inputs)
            old = before.graph.tensors[op.inputs[2]].data
            scales = after.weights[weights.number].scales
            assert old is not None
            assert bias.data is not None
            assert scales is not None
            step = x.scale / after.graph.tensors[op.outputs[0]].scale * scales.astype(np.float64)
            assert np.abs((bias.data - old / 1.7) * step).max() < 0.07


def float_ends(inner: Model) -> Model:
    """The network behind a QUANTIZE and before a DEQUANTIZE."""
    graph = inner.subgraphs[0]
    first, last = graph.inputs[0], graph.outputs[0]
    tensors = [
        *graph.tensors,
        *(tflite.Tensor(f"real_{i}", graph.tensors[i].shape, "float32") for i in (first, last)),
    ]
    ends = len(graph.tensors), len(graph.tensors) + 1
    operators = [
        tflite.Operator(tflite.OPERATOR_CODES["QUANTIZE"], (ends[0],), (first,), schema.QuantizeOptionsT()),
        *graph.operators,
        tflite.Operator(
            tflite.OPERATOR_CODES["DEQUANTIZE"], (last,), (ends[1],), schema.DequantizeOptionsT()
        ),
    ]
    return Model([tflite.Subgraph(tensors, operators, ends[:1], ends[1:])])


def test_float_ends_are_folded() -> None:
    inner = small_network().model()
    model = float_ends(inner)
    assert tflite.precision(model) == "int8"
    assert graph_bytes(lower(model)) == graph_bytes(lower(inner))
    assert tflite.build(strip_ends(model)) == tflite.build(replace(strip_ends(model)))
    assert strip_ends(inner) is inner


def break_operator(name: str, **options: int) -> Model:
    model: Model = small_network().model()
    for operator in model.operators:
        if operator.name == name:
            for option, value in options.items():
                setattr(operator.options, option, value)
            break
    return model


@given(st.sampled_from(sorted(set(tflite.OPERATOR_CODES) - set(OPERATORS))), st.integers(0, 9))
def test_other_operators_are_refused_by_name_and_index(name: str, index: int) -> None:
    model = small_network().model()
    model.operators[index].code = tflite.OPERATOR_CODES[name]
    with pytest.raises(ModelError, match=rf"operator {index} \({name}.*\)"):
        lower(model)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (
            break_operator("CONV_2D", fusedActivationFunction=4),
            r"operator 0 \(CONV_2D\): it has the unknown activation",
        ),
        (break_operator("CONV_2D", padding=2), r"operator 0 \(CONV_2D\): it has the unknown padding"),
        (break_operator("CONV_2D", strideH=300), r"operator 0 \(CONV_2D\): it has a stride.* above 255"),
        (break_operator("CONV_2D", strideH=0), r"operator 0 \(CONV_2D\)"),
        (break_operator("CONV_2D", dilationHFactor=99, padding=VALID), r"operator 0 \(CONV_2D\)"),
        (
            break_operator("ADD", fusedActivationFunction=4),
            r"operator 3 \(ADD\): it has the unknown activation",
        ),
        (break_operator("FULLY_CONNECTED", weightsFormat=1), r"\(FULLY_CONNECTED\): it has shuffled weights"),
        (small_network("float32").model(), r"operator 0 \(CONV_2D\): it works on float32.*quantize"),
        (small_network("float16").model(), r"operator 0 \(DEQUANTIZE\)"),
        (small_network("dynamic").model(), r"operator 0 \(CONV_2D\): it works on float32"),
    ],
)
def test_variants_that_no_kernel_runs_are_refused(model: Model, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        lower(model)


def test_weights_that_are_computed_are_refused() -> None:
    model = small_network().model()
    weights = model.tensors[model.operators[0].inputs[1]]
    weights.data = None
    with pytest.raises(ModelError, match=r"operator 0 \(CONV_2D\): it has weights that are not constant"):
        lower(model)


def test_int16_activations_are_refused() -> None:
    model = small_network().model()
    model.tensors[model.inputs[0]].dtype = "int16"
    with pytest.raises(ModelError, match=r"operator 0 \(CONV_2D\): it works on int16"):
        lower(model)


def test_batches_are_refused() -> None:
    model = small_network().model()
    model.tensors[model.inputs[0]].shape = (2, 8, 8, 3)
    with pytest.raises(ModelError, match="batch 1"):
        lower(model)


def test_asymmetric_weights_are_refused() -> None:
    model = small_network().model()
    model.tensors[model.operators[0].inputs[1]].zero_points[0] = 1
    with pytest.raises(ModelError, match=r"operator 0 \(CONV_2D\): it has weights with a zero point"):
        lower(model)


def test_missing_options_and_inputs_are_refused() -> None:
    for change in ({"options": None}, {"inputs": (0,)}, {"inputs": ()}):
        model = small_network().model()
        model.operators[0] = replace(model.operators[0], **change)
        with pytest.raises(ModelError, match=r"operator 0 \(CONV_2D\)"):
            lower(model)


DAMAGED = Builder((1, 4, 4, 2)).conv(2).depthwise().reshape(1, 32).dense(3).softmax().bytes()


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_models_are_lowered_or_refused(changes: list[tuple[float, int]]) -> None:
    data = bytearray(DAMAGED)
    for place, value in changes:
        data[8 + int(place * (len(data) - 8))] = value
    with contextlib.suppress(ModelError):
        lower(tflite.read(bytes(data)))


def test_limits_of_the_board_are_refused() -> None:
    with pytest.raises(ModelError, match=r"operator 1 \(FULLY_CONNECTED\): it has 16640 weights per channel"):
        lower(Builder((1, 8, 8, 1)).conv(260).dense(1).model())
    net = Builder((1, 4, 4, 2)).conv(2)
    net.add(net.last)
    net.tensors[net.last].scales = np.full(1, 1e-9, np.float32)
    with pytest.raises(ModelError, match=r"operator 1 \(ADD\): it has an output scale far below"):
        lower(net.model())
