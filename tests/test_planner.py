"""The planned arena: nothing that is still needed is overwritten, and it is what the board asks for."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from builder import NONE, Builder, small_network
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from networks import BLOCKS, OPERATORS
from regrow.graph import ACTIVATION, VARIABLE, Graph, Node, Tensor
from regrow_host import bands, planner, tflite
from regrow_host.lower import graph_bytes, lower
from regrow_host.tflite import Model
from regrow_host.work import POOLS, work
from test_board_engine import micropython
from test_board_operators import draw

CONV_2D, DEPTHWISE_CONV_2D = (tflite.OPERATOR_CODES[name] for name in ("CONV_2D", "DEPTHWISE_CONV_2D"))
ANY: SearchStrategy[Model] = st.one_of(*OPERATORS.values(), *BLOCKS.values())


def clashes(graph: Graph) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(op, a, b) where a tensor that has a value shares bytes with another, and the op does not permit it."""
    uses = [*(set(op.inputs) for op in graph.ops), set(graph.outputs)]
    chained = {n: chain for chain in bands.of(graph) for n in range(chain.first, chain.last + 1)}
    for n, (alive, (op, node)) in enumerate(zip(planner.alive(graph), graph.nodes(), strict=True)):
        for a in alive:
            for b in alive[alive.index(a) + 1 :]:
                x, y = graph.tensors[a], graph.tensors[b]
                if b in op.inputs:
                    a, b, x, y = b, a, y, x  # noqa: PLW2901
                if not (x.offset < y.offset + y.room and y.offset < x.offset + x.room):
                    continue
                if n in chained and may_share_in_chain(graph, chained[n], a, b, uses):
                    continue
                passes = a in op.inputs and b in op.outputs and not any(a in later for later in uses[n + 1 :])
                if not (passes and may_share(op.code, node, x, y)):
                    yield n, x, y


def may_share_in_chain(graph: Graph, chain: bands.Chain, a: int, b: int, uses: list[set[int]]) -> bool:
    """Whether what a chain gives, of tensors a and b, may stand over the other, which it takes."""
    output = chain.links[-1].output
    if output not in (a, b):
        return False
    given = a if b == output else b
    if any(given in later for later in uses[chain.last + 1 :]):
        return False
    x, y = graph.tensors[given], graph.tensors[output]
    row, image_row = y.nbytes // y.shape[1], x.nbytes // x.shape[1]
    done = dict.fromkeys(range(len(chain.links)), 0)
    for step in range(chain.steps):
        ends = chain.ends(min(chain.height, (step + 1) * chain.rows))
        done = {n: ends[each.output] for n, each in enumerate(chain.links)}
        whole = chain.ends(chain.height)
        for n, each in enumerate(chain.links):
            if given not in each.inputs:
                continue
            if n == len(chain.links) - 1:  # row by row, in place
                if row != image_row or each.reach > 1 or each.stride > 1 or y.offset > x.offset:
                    return False
            elif done[n] < whole[each.output]:
                first = max(0, done[n] * each.stride - each.top)
                if y.offset + done[len(chain.links) - 1] * row > x.offset + first * image_row:
                    return False
    return True


def may_share(code: int, node: Node, x: Tensor, y: Tensor) -> bool:
    """Whether the output y may stand where it does over the input x that nothing uses later."""
    if code in planner.IN_PLACE and (x.offset, x.nbytes) == (y.offset, y.nbytes):
        return code != DEPTHWISE_CONV_2D or x.shape == y.shape
    if code not in (CONV_2D, DEPTHWISE_CONV_2D, *POOLS):
        return False
    stride, padding = node.options[0], node.options[4]
    filters = node.inputs[1] if code not in POOLS else None
    taps, dilation = (filters.shape[1], node.options[2]) if filters else (node.options[2], 1)
    height, rows, reach = x.shape[1], y.shape[1], (taps - 1) * dilation + 1
    top = 0 if padding else max(0, (rows - 1) * stride + reach - height) // 2
    for row in range(rows):
        written = range(y.offset, y.offset + y.nbytes // rows * (row + 1))
        read = range(max(0, row * stride - top), height)  # of the input's rows, from this output row on
        if code == DEPTHWISE_CONV_2D:  # which has copied the window of this row
            read = range(max(0, row * stride - top + reach), height)
        start, end = (x.offset + x.nbytes // height * each for each in (read.start, read.stop))
        if start < end and written.start < end and start < written.stop:
            return False
    return True


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(ANY)
def test_nothing_is_overwritten_while_it_is_needed(model: Model) -> None:
    graph = lower(tflite.read(tflite.build(model))).graph
    assert list(clashes(graph)) == []
    activations = [each for each in graph.tensors if each.kind in (ACTIVATION, VARIABLE)]
    assert max(each.offset + each.room for each in activations) <= graph.arena
    assert all(each.offset % planner.ALIGNMENT == 0 for each in activations)


def test_add_and_reshape_work_in_place() -> None:
    net = Builder((1, 4, 4, 4)).conv(4)
    skipped = net.last
    graph = lower(net.conv(4).add(skipped).reshape(1, 64).model()).graph
    *_, add, reshape = graph.ops
    offsets = {graph.tensors[i].offset for op in (add, reshape) for i in op.outputs}
    assert offsets <= {graph.tensors[i].offset for i in add.inputs}
    assert len(offsets) == 1


def test_outputs_run_into_the_places_of_their_inputs() -> None:
    """A convolution of 3 x 3 keeps its output a row and the row it writes before its input."""
    graph = lower(Builder((1, 32, 32, 8)).conv(8).pool().model()).graph
    assert graph.arena == 32 * 32 * 8 + 2 * 32 * 8 + 8 * (16 + 72) + 5 * (72 + 4 + 32)


def test_residual_blocks_run_band_by_band() -> None:
    """Of the block's inner tensors a few rows are there, and its output stands where its input was."""
    net = Builder((1, 32, 32, 16))
    graph = lower(net.conv(16).conv(16, activation=NONE).add(net.inputs[0]).pool().model()).graph
    (chain,) = bands.of(graph)
    assert (chain.first, chain.last) == (0, 2)
    assert graph.arena < 32 * 32 * 16 + 8 * 1024
    whole = replace(graph, tensors=tuple(replace(each, rows=0) for each in graph.tensors))
    assert bands.of(whole) == []
    assert planner.activation_peak(graph) < planner.activation_peak(whole) // 2 + 4096


@pytest.mark.shared
def test_arenas_of_the_shared_models_lie_below_tflite_micros(shared: Path) -> None:
    """Bytes of activations and work; those of TFLite Micro's arenas, measured by its own interpreter."""
    arenas = {"ic_resnet8": 55984, "kws_dscnn": 24272, "vww_mobilenetv1_025": 103680}
    limits = {"ad_autoencoder": 10240} | {name: 0.69 * arena for name, arena in arenas.items()}
    for name, limit in limits.items():
        data = (shared / "models" / f"mlperf_{name}_int8.tflite").read_bytes()
        assert lower(tflite.read(data)).graph.arena < limit, name


NEEDS = """
import sys
from regrow import install
from regrow.graph import Graph
from regrow.reader import Reader

for number in range(int(sys.argv[1])):
    with open("%d.graph" % number, "rb") as file:
        graph = Graph(Reader(file, 0, file.seek(0, 2)))
        print(*[install._lay(op, None, None) for op in graph.ops()], install._plan(graph)[0])
"""


def test_arenas_are_what_the_board_asks_for(tmp_path: Path) -> None:
    models = [small_network().model(), *draw(ANY, 100)]
    wanted = []
    for number, model in enumerate(models):
        lowered = lower(tflite.read(tflite.build(model)))
        (tmp_path / f"{number}.graph").write_bytes(graph_bytes(lowered))
        needs = [work(op.code, node, runs_over(op.code, node)) for op, node in lowered.graph.nodes()]
        wanted.append(" ".join(map(str, [*needs, lowered.graph.arena])))
    assert micropython(NEEDS, tmp_path, str(len(models))).splitlines() == wanted


def runs_over(code: int, node: Node) -> bool:
    """Whether the output shares bytes with the input, but is not in its very place."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    same = code == DEPTHWISE_CONV_2D and (x.offset, x.shape) == (y.offset, y.shape)
    return not same and x.offset < y.offset + y.room and y.offset < x.offset + x.room
