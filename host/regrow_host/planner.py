"""Where each activation stands in the arena: lifetimes, in-place operators, greedy placement by size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from regrow.graph import ACTIVATION, Graph, Op

from .tflite import OPERATOR_CODES

ALIGNMENT = 4  # so that kernels may load words

ADD = OPERATOR_CODES["ADD"]
RESHAPE = OPERATOR_CODES["RESHAPE"]


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
    """The graph with offsets for its activations and with the arena they need, in bytes.

    Blocks are placed from the largest to the smallest, each at the lowest offset where it overlaps none that
    is alive with it (as TFLite Micro's greedy memory planner does).
    """
    blocks = _blocks(graph)
    place({id(block): block for block in blocks.values()}.values())
    tensors = tuple(
        replace(tensor, offset=blocks[i].offset) if i in blocks else tensor
        for i, tensor in enumerate(graph.tensors)
    )
    return replace(graph, tensors=tensors, arena=max((block.end for block in blocks.values()), default=0))


def place(blocks: Iterable[Block]) -> None:
    """Give each block its offset."""
    placed: list[Block] = []
    for block in sorted(blocks, key=lambda block: (-block.size, block.first)):
        block.offset = 0
        for other in sorted(placed, key=lambda other: other.offset):
            if block.meets(other) and block.offset < other.end and other.offset < block.end:
                block.offset = _aligned(other.end)
        placed.append(block)


def _blocks(graph: Graph) -> dict[int, Block]:
    """The block of each activation, by tensor id."""
    last = {i: len(graph.ops) for i in graph.outputs}
    for n, op in enumerate(graph.ops):
        for i in op.inputs:
            last[i] = max(last.get(i, n), n)
    blocks: dict[int, Block] = {}
    for n, written in [(-1, graph.inputs), *((n, op.outputs) for n, op in enumerate(graph.ops))]:
        for i in written:
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
    for i in _overwritable(graph.ops[n]):
        same_size = graph.tensors[i].nbytes == graph.tensors[output].nbytes if i >= 0 else False
        if same_size and graph.tensors[i].kind == ACTIVATION and blocks[i].last == n:
            return blocks[i]
    return None


def _overwritable(op: Op) -> tuple[int, ...]:
    return {ADD: op.inputs, RESHAPE: op.inputs[:1]}.get(op.code, ())


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
