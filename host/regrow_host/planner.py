"""The board's memory: where each activation stands in the arena, and what its executor needs besides."""

from __future__ import annotations

from dataclasses import dataclass, replace

from regrow.graph import ACTIVATION, VARIABLE, Graph, Node

from .operators import LOOKUP
from .tflite import OPERATOR_CODES

ALIGNMENT = 4  # so that kernels may load words
TRIES = 100

TILE = 4096  # bytes of weights that the board grows at one time, but one row at least
SLACK = 8  # bytes behind a tile or column that its kernels may read
ADD_TABLES = 2048

ADD = OPERATOR_CODES["ADD"]
CONV_2D = OPERATOR_CODES["CONV_2D"]
DEPTHWISE_CONV_2D = OPERATOR_CODES["DEPTHWISE_CONV_2D"]
FULLY_CONNECTED = OPERATOR_CODES["FULLY_CONNECTED"]
RESHAPE = OPERATOR_CODES["RESHAPE"]

IN_PLACE = {*(OPERATOR_CODES[name] for name in ("ADD", "SUB", "MUL", "RESHAPE")), LOOKUP}


@dataclass
class Block:
    """A stretch of the arena that one tensor, or several in place of each other, occupy from op to op."""

    size: int
    first: int  # the op that writes it, -1 for an input of the graph
    last: int  # the last op that reads it, one past the last op for an output of the graph
    offset: int = 0

    def meets(self, other: Block) -> bool:
        return self.first <= other.last and other.first <= self.last

    @property
    def end(self) -> int:
        return self.offset + self.size


def plan(graph: Graph) -> Graph:
    """The graph with offsets for its activations and with the arena they need, in bytes."""
    by_tensor = _blocks(graph)
    blocks = list({id(block): block for block in by_tensor.values()}.values())
    arena = _place_well(blocks)
    tensors = tuple(
        replace(tensor, offset=by_tensor[i].offset) if i in by_tensor else tensor
        for i, tensor in enumerate(graph.tensors)
    )
    return replace(graph, tensors=tensors, arena=arena)


def _place_well(blocks: list[Block]) -> int:
    """Give the blocks offsets in the smallest arena found, and return its bytes.

    From the largest to the smallest, as TFLite Micro's greedy planner places them; while that leaves
    gaps, the block at the top of the arena goes first in the next try.
    """
    least = max(
        sum(other.size for other in blocks if other.first <= each.first <= other.last) for each in blocks
    )
    order = sorted(blocks, key=lambda block: (-block.size, block.first))
    best, offsets = _place(order), [block.offset for block in blocks]
    for _ in range(TRIES):
        if best <= least:
            break
        top = max(order, key=lambda block: block.end)
        order = [top, *(block for block in order if block is not top)]
        arena = _place(order)
        if arena < best:
            best, offsets = arena, [block.offset for block in blocks]
    for block, offset in zip(blocks, offsets, strict=True):
        block.offset = offset
    return best


def _place(order: list[Block]) -> int:
    """Each block in turn at the lowest offset where it overlaps none alive with it; returns the arena."""
    placed: list[Block] = []
    for block in order:
        block.offset = 0
        for other in placed:
            if block.meets(other) and block.offset < other.end and other.offset < block.end:
                block.offset = -(-other.end // ALIGNMENT) * ALIGNMENT
        placed.append(block)
        placed.sort(key=lambda other: other.offset)
    return max(block.end for block in order)


def _blocks(graph: Graph) -> dict[int, Block]:
    """The block of each activation and variable, by tensor id."""
    last = {i: len(graph.ops) for i in graph.outputs}
    for n, op in enumerate(graph.ops):
        for i in op.inputs:
            last[i] = max(last.get(i, n), n)
    blocks: dict[int, Block] = {
        i: Block(tensor.nbytes, -1, len(graph.ops))
        for i, tensor in enumerate(graph.tensors)
        if tensor.kind == VARIABLE
    }
    for n, written in [(-1, graph.inputs), *((n, op.outputs) for n, op in enumerate(graph.ops))]:
        for i in written:
            if graph.tensors[i].kind == VARIABLE:
                continue
            end = last.get(i, n)
            block = _in_place(graph, n, i, blocks)
            if block is None:
                block = Block(graph.tensors[i].nbytes, n, end)
            block.last = max(block.last, end)
            blocks[i] = block
    return blocks


def _in_place(graph: Graph, n: int, output: int, blocks: dict[int, Block]) -> Block | None:
    """The block of an input that op n may overwrite with its output: it is read no later than written."""
    if n < 0:
        return None
    if graph.ops[n].code not in IN_PLACE:
        return None
    for i in graph.ops[n].inputs:
        same_size = graph.tensors[i].nbytes == graph.tensors[output].nbytes if i >= 0 else False
        if same_size and graph.tensors[i].kind == ACTIVATION and blocks[i].last == n:
            return blocks[i]
    return None


def memory(graph: Graph) -> int:
    """Bytes the board's executor needs for activations and tiles: what the manifest calls the arena.

    The planned arena, the largest tile of weights and the largest scratch that an op asks for
    (`plan.need` in micropython/regrow/kernels).
    """
    needs = [_tile_and_scratch(op.code, node) for op, node in graph.nodes()]
    return (
        graph.arena
        + max((tile for tile, _ in needs), default=0)
        + max((need for _, need in needs), default=0)
    )


def _tile_and_scratch(code: int, node: Node) -> tuple[int, int]:
    if code == ADD:
        return 0, ADD_TABLES
    if code not in (CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED):
        return 0, 0
    image, taps, *_ = node.inputs
    assert image is not None
    assert taps is not None
    if code == DEPTHWISE_CONV_2D:
        return taps.size + SLACK, taps.size + _window(node, image.shape[3], taps.shape)
    channels, terms = taps.shape[0], taps.size // taps.shape[0]
    tile = min(channels, max(1, TILE // terms)) * terms + SLACK
    gathers = code == CONV_2D and taps.shape[1:3] != (1, 1)
    return tile, -(-terms // 8) * 8 + SLACK if gathers else 0


def _window(node: Node, depth: int, taps: tuple[int, ...]) -> int:
    """Bytes of the padded image rows that one row of a depthwise convolution's output needs."""
    _, stride_w, dilation_h, dilation_w, *_ = node.options
    rows = (taps[1] - 1) * dilation_h + 1
    columns = (node.outputs[0].shape[2] - 1) * stride_w + (taps[2] - 1) * dilation_w + 1
    return rows * columns * depth
