"""Lowering to the device graph: equal to TFLite bit for bit, planned without overlaps, refusing the rest."""

import io
import os
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builder import NONE, RELU, RELU6, SAME, VALID, Builder, small_network
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from regrow.executor import Executor
from regrow.graph import ACTIVATION, Graph, Op, Tensor
from regrow.reader import Reader
from regrow_host import graphmodel, planner, tflite
from regrow_host.lower import Lowered, graph_bytes, lower, strip_ends
from regrow_host.operators import OPERATORS
from regrow_host.tflite import Model, ModelError

interpreter = pytest.importorskip("ai_edge_litert.interpreter")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

Array = NDArray[Any]
Weights = dict[int, tuple[Array, Array]]

INT8 = np.dtype(np.int8)
SCRIPTS = sysconfig.get_path("scripts") + os.pathsep + os.environ.get("PATH", os.defpath)
MICROPYTHON = shutil.which("micropython", path=SCRIPTS)


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
    changed = tflite.with_weights(data, {each.tensor: others[each.number] for each in lowered.weights})
    graph = parse(graph_bytes(lowered, {number: scales for number, (_, scales) in others.items()}))
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


def test_equal_scales_give_the_same_graph() -> None:
    lowered = lower(small_network().model())
    scales = {number: scales for number, (_, scales) in weights_of(lowered).items()}
    assert graph_bytes(lowered, scales) == graph_bytes(lowered)


def test_a_bias_that_overflows_is_refused() -> None:
    lowered = lower(small_network().model())
    with pytest.raises(ModelError, match="does not fit 32 bits"):
        graph_bytes(lowered, {0: np.full(8, 1e-20, np.float32)})


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


def overlaps(graph: Graph) -> list[tuple[int, int]]:
    """Pairs of activations that share bytes while both are alive, where no op permits it."""
    first, last = dict.fromkeys(graph.inputs, -1), dict.fromkeys(graph.outputs, len(graph.ops))
    for n, op in enumerate(graph.ops):
        last.update((i, max(last.get(i, n), n)) for i in op.inputs)
    permitted: set[tuple[int, int]] = set()
    for n, op in enumerate(graph.ops):
        first.update((i, n) for i in op.outputs)
        if op.code in (planner.ADD, planner.RESHAPE):
            permitted.update((i, op.outputs[0]) for i in op.inputs if last[i] == n)
    found = []
    for a in first:
        for b in first:
            meet = first[a] <= last.get(b, first[b]) and first[b] <= last.get(a, first[a])
            x, y = graph.tensors[a], graph.tensors[b]
            share = x.offset < y.offset + y.nbytes and y.offset < x.offset + x.nbytes
            if a < b and meet and share and not permitted & {(a, b), (b, a)}:
                found.append((a, b))
    return found


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 99), st.booleans()), min_size=1, max_size=12))
def test_planned_activations_do_not_overlap(layers: list[tuple[int, int, bool]]) -> None:
    """Random graphs: each op takes the tensor before it and, for an ADD of equal sizes, an older one."""
    tensors = [Tensor(ACTIVATION, INT8, (1, 8))]
    ops = []
    for size, back, add in layers:
        other = back % len(tensors)
        last = len(tensors) - 1
        same = add and tensors[other].shape == tensors[last].shape
        tensors.append(Tensor(ACTIVATION, INT8, tensors[last].shape if same else (1, size)))
        code = planner.ADD if same else tflite.OPERATOR_CODES["FULLY_CONNECTED"]
        ops.append(Op(code, (last, other) if add else (last,), (len(tensors) - 1,)))
    graph = planner.plan(Graph(tuple(tensors), tuple(ops), (0,), (len(tensors) - 1,), 0))
    assert overlaps(graph) == []
    assert max(each.offset + each.nbytes for each in graph.tensors) == graph.arena
    assert all(each.offset % planner.ALIGNMENT == 0 for each in graph.tensors)


def test_add_and_reshape_work_in_place() -> None:
    net = Builder((1, 4, 4, 4)).conv(4)
    skipped = net.last
    net.conv(4).add(skipped).reshape(1, 64)
    lowered = lower(net.model())
    assert lowered.graph.arena == 2 * 64
    *_, add, reshape = lowered.graph.ops
    offsets = {lowered.graph.tensors[i].offset for op in (add, reshape) for i in op.outputs}
    assert offsets <= {lowered.graph.tensors[i].offset for i in add.inputs}
    assert len(offsets) == 1


DAMAGED = Builder((1, 4, 4, 2)).conv(2).depthwise().reshape(1, 32).dense(3).softmax().bytes()


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_models_are_lowered_or_refused(changes: list[tuple[float, int]]) -> None:
    data = bytearray(DAMAGED)
    for place, value in changes:
        data[8 + int(place * (len(data) - 8))] = value
    try:
        graph = lower(tflite.read(bytes(data))).graph
    except ModelError:
        return
    assert overlaps(graph) == []


BOARD_MEMORY = """
from regrow import install
from regrow.graph import Graph
from regrow.reader import Reader

with open("graph", "rb") as file:
    size = file.seek(0, 2)
    print(install._memory(Graph(Reader(file, 0, size))))
"""


@pytest.mark.skipif(MICROPYTHON is None, reason="micropython is not installed")
def test_memory_is_what_the_board_asks_for(tmp_path: Path) -> None:
    lowered = lower(small_network().model())
    (tmp_path / "graph").write_bytes(graph_bytes(lowered))
    run = subprocess.run(
        [str(MICROPYTHON), "-c", BOARD_MEMORY],
        env=os.environ | {"MICROPYPATH": f"{Path(__file__).parents[1] / 'micropython'}:.frozen"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout.split() == [str(planner.memory(lowered.graph))], run.stderr


def test_limits_of_the_board_are_refused() -> None:
    with pytest.raises(ModelError, match=r"operator 1 \(FULLY_CONNECTED\): it has 16640 weights per channel"):
        lower(Builder((1, 8, 8, 1)).conv(260).dense(1).model())
    net = Builder((1, 4, 4, 2)).conv(2)
    net.add(net.last)
    net.tensors[net.last].scales = np.full(1, 1e-9, np.float32)
    with pytest.raises(ModelError, match=r"operator 1 \(ADD\): it has an output scale far below"):
        lower(net.model())


@pytest.mark.shared
def test_arenas_of_the_shared_models_are_minimal(shared: Path) -> None:
    """Bytes of the activations that must be alive together."""
    arenas = {"ad_autoencoder": 768, "ic_resnet8": 49152, "kws_dscnn": 16000, "vww_mobilenetv1_025": 55296}
    for name, arena in arenas.items():
        data = (shared / "models" / f"mlperf_{name}_int8.tflite").read_bytes()
        assert lower(tflite.read(data)).graph.arena == arena
