"""The board's memory: where each activation stands in the arena, beside what ops work in while they run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from regrow.graph import ACTIVATION, VARIABLE, Graph, Node, Tensor

from .tflite import OPERATOR_CODES
from .work import DEPTHWISE_CONV_2D, LOOKUP, lag, work

ALIGNMENT = 4  # so that kernels may load words
WORK_ALIGNMENT = 8
TRIES = 200

IN_PLACE = {
    *(OPERATOR_CODES[name] for name in ("ADD", "SUB", "MUL", "RESHAPE")),
    DEPTHWISE_CONV_2D,
    LOOKUP,
}


@dataclass(eq=False)
class Block:
    """A stretch of the arena that one tensor, or several in place of each other, or an op's work occupy."""

    size: int
    first: int  # the op that writes it, -1 for an input of the graph
    last: int  # the last op that reads it, one past the last op for an output of the graph
    alignment: int = ALIGNMENT
    lags: dict[Block, int] = field(default_factory=dict)  # blocks it may run into, and how far before them
    offset: int = 0

    def meets(self, other: Block) -> bool:
        return self.first <= other.last and other.first <= self.last

    @property
    def end(self) -> int:
        return self.offset + self.size

    def forbidden(self, other: Block) -> tuple[int, int]:
        """No offset between these two keeps apart what must be kept apart from the other block."""
        low, high = other.offset - self.size, other.end
        if other in self.lags:
            low = max(low, other.offset - self.lags[other])
        if self in other.lags:
            high = min(high, other.offset + other.lags[self])
        return low, high


def plan(graph: Graph) -> Graph:
    """The graph with offsets for its activations and with the arena they and its ops need, in bytes."""
    by_tensor = _blocks(graph)
    blocks = list(dict.fromkeys(by_tensor.values()))
    arena = _place_well([*blocks, *_work(graph, by_tensor)])
    tensors = tuple(
        replace(tensor, offset=by_tensor[i].offset) if i in by_tensor else tensor
        for i, tensor in enumerate(graph.tensors)
    )
    return replace(graph, tensors=tensors, arena=arena)


def alive(graph: Graph) -> list[list[int]]:
    """Per op the ids of the activations and variables that have a value while it runs."""
    spans = {i: (block.first, block.last) for i, block in _tensors(graph).items()}
    return [[i for i, (first, last) in spans.items() if first <= n <= last] for n in range(len(graph.ops))]


def activation_peak(graph: Graph) -> int:
    """The most bytes of the arena that hold activations and variables at one time."""
    return max((_covered([graph.tensors[i] for i in ids]) for ids in alive(graph)), default=graph.arena)


def _covered(tensors: list[Tensor]) -> int:
    """Bytes that tensors cover; those that several share count once."""
    total = end = 0
    for tensor in sorted(tensors, key=lambda each: each.offset):
        total += max(0, tensor.offset + tensor.nbytes - max(end, tensor.offset))
        end = max(end, tensor.offset + tensor.nbytes)
    return total


def _blocks(graph: Graph) -> dict[int, Block]:
    """The block of each activation and variable, by tensor id."""
    blocks = _tensors(graph)
    for n, op in enumerate(graph.ops):
        for i in op.outputs:
            shared = _in_place(graph, n, i, blocks)
            if shared:
                shared.last = blocks[i].last
                blocks[i] = shared
    return blocks


def _tensors(graph: Graph) -> dict[int, Block]:
    """A block for each activation and variable, by tensor id."""
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
            if graph.tensors[i].kind == ACTIVATION:
                blocks[i] = Block(graph.tensors[i].nbytes, n, last.get(i, n))
    return blocks


def _in_place(graph: Graph, n: int, output: int, blocks: dict[int, Block]) -> Block | None:
    """The block of an input that op n may overwrite with its output: it is read no later than written."""
    op, tensor = graph.ops[n], graph.tensors[output]
    if op.code not in IN_PLACE or tensor.kind != ACTIVATION:
        return None
    for i in op.inputs:
        x = graph.tensors[i] if i >= 0 else None
        if not x or x.kind != ACTIVATION or x.nbytes != tensor.nbytes or blocks[i].last != n:
            continue
        if op.code != DEPTHWISE_CONV_2D or x.shape == tensor.shape:
            return blocks[i]
    return None


def _work(graph: Graph, blocks: dict[int, Block]) -> Iterator[Block]:
    """The blocks that ops work in; notes on the way which outputs may run into their input's place."""
    for n, (op, node) in enumerate(graph.nodes()):
        given, written = blocks.get(op.inputs[0]), blocks[op.outputs[0]]
        distance = lag(op.code, node)
        shares = False
        if given and given is not written and distance is not None:
            shares = given.last == n and written.first == n and _pays(op.code, node, distance)
            if shares:
                written.lags[given] = distance
        size = work(op.code, node, shares)
        if size:
            yield Block(size, n, n, WORK_ALIGNMENT)


def _pays(code: int, node: Node, distance: int) -> bool:
    """Whether the op takes less memory if its output runs into its input's place."""
    given, written = node.inputs[0], node.outputs[0]
    assert given is not None
    together = max(given.nbytes + max(0, distance), written.nbytes)
    return together + work(code, node, True) < given.nbytes + written.nbytes + work(code, node)


def _place_well(blocks: list[Block]) -> int:
    """Give the blocks offsets in the smallest arena found, and return its bytes.

    From the largest to the smallest, as TFLite Micro's greedy planner places them, but of equal ones the last
    first: it lies lower where it runs into the place of one before. Then, try by try, the block that came to
    lie at the top goes to an earlier turn.
    """
    order = sorted(blocks, key=lambda block: (-block.size, -block.first))
    chance = random.Random(0)
    best, offsets, least = _place(order), [block.offset for block in blocks], _least(blocks)
    for _ in range(TRIES):
        if best <= least:
            break
        top = max(order, key=lambda block: block.end)
        changed = [block for block in order if block is not top]
        changed.insert(chance.randrange(order.index(top) + 1), top)
        arena = _place(changed)
        if arena <= best:
            best, offsets, order = arena, [block.offset for block in blocks], changed
    for block, offset in zip(blocks, offsets, strict=True):
        block.offset = offset
    return best


def _least(blocks: list[Block]) -> int:
    """No arena is smaller: what is alive together, less what may run into another's place."""
    return max(
        sum(other.size - _shared(other) for other in blocks if other.first <= each.first <= other.last)
        for each in blocks
    )


def _shared(block: Block) -> int:
    """The most bytes that a block may have in common with those whose place it runs into."""
    return sum(min(other.size, block.size, block.size - distance) for other, distance in block.lags.items())


def _place(order: list[Block]) -> int:
    """Each block in turn at the lowest offset where it is apart from all alive with it; gives the arena."""
    placed: list[Block] = []
    for block in order:
        block.offset = 0
        near = [other for other in placed if block.meets(other)]
        moved = True
        while moved:
            moved = False
            for other in near:
                low, high = block.forbidden(other)
                if low < block.offset < high:
                    block.offset = -(-high // block.alignment) * block.alignment
                    moved = True
        placed.append(block)
        placed.sort(key=lambda other: other.offset)
    return max(block.end for block in order)
