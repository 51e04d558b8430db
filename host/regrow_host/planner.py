"""The board's memory: where each activation stands in the arena, beside what ops work in while they run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from regrow.graph import ACTIVATION, VARIABLE, Graph, Node, Tensor

from . import bands
from .bands import Chain
from .tflite import OPERATOR_CODES
from .work import CONV_2D, DEPTHWISE_CONV_2D, LOOKUP, lag, work

ALIGNMENT = 4  # so that kernels may load words
WORK_ALIGNMENT = 8
TRIES = 200
GROWTH = 1, 0.85, 0.7, 0.5, 0.3  # of what nothing else takes while an op runs, that it may find
WORTH = 32  # ops run band by band where that saves one part in so many of the arena

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
    """The graph with offsets for its activations and with the arena they and its ops need, in bytes.

    Where that makes the arena smaller, ops run band by band and what is between them is there in part.
    """
    return place(graph, _chains(graph))


def place(graph: Graph, chains: list[Chain]) -> Graph:
    """The graph planned with those ops running band by band."""
    kept = {i: rows for chain in chains for i, rows in chain.kept().items()}
    by_tensor, blocks = _lay(graph, chains)
    arena = _place_well(blocks)
    _grow(graph, blocks, arena)
    tensors = tuple(
        replace(tensor, offset=by_tensor[i].offset, rows=kept.get(i, 0)) if i in by_tensor else tensor
        for i, tensor in enumerate(graph.tensors)
    )
    return replace(graph, tensors=tensors, arena=arena)


def _chains(graph: Graph) -> list[Chain]:
    """The chains to run band by band, each in as few steps as the arena has room for.

    While the op that needs most is in a chain that needs less, that chain is taken.
    """
    chains: list[Chain] = []
    left = bands.candidates(graph)
    while left:
        needs = _needs(graph, chains)
        top = needs.index(max(needs))
        able = [chain for chain in left if chain.first <= top <= chain.last]
        trials = [(_needs(graph, [*chains, each])[top], len(each.links), each.first, each) for each in able]
        if not trials:
            break
        least, _, _, best = min(trials, key=lambda trial: trial[:3])
        if least > needs[top] - needs[top] // WORTH:
            break
        chains.append(best)
        left = [each for each in left if each.last < best.first or each.first > best.last]
    return _widened(graph, _wanted(graph, chains))


def _wanted(graph: Graph, chains: list[Chain]) -> list[Chain]:
    """The chains without those that do not make the arena smaller."""
    arena = _arena(graph, chains)
    for chain in reversed(chains):
        others = [each for each in chains if each is not chain]
        needed = _arena(graph, others)
        if needed - needed // WORTH <= arena:
            chains, arena = others, needed
    return chains


def _widened(graph: Graph, chains: list[Chain]) -> list[Chain]:
    """The chains in as few steps as the arena has room for."""
    arena = _arena(graph, chains)
    for n, chain in enumerate(chains):
        for steps in range(2, chain.steps):
            larger = replace(chain, rows=-(-chain.height // steps))
            fewer = [*chains[:n], larger, *chains[n + 1 :]]
            if larger.saves(graph) and _arena(graph, fewer) <= arena:
                chains = fewer
                break
    return chains


def _needs(graph: Graph, chains: list[Chain]) -> list[int]:
    """The least bytes that must be there while each op runs."""
    _, blocks = _lay(graph, chains)
    return [_need(blocks, n) for n in range(len(graph.ops))]


def _arena(graph: Graph, chains: list[Chain]) -> int:
    """The arena with those chains."""
    _, blocks = _lay(graph, chains)
    return _place_well(blocks)


def _lay(graph: Graph, chains: list[Chain]) -> tuple[dict[int, Block], list[Block]]:
    """The block of each activation and variable, by tensor id, and all blocks."""
    by_tensor = _blocks(graph, chains)
    blocks = list(dict.fromkeys(by_tensor.values()))
    return by_tensor, [*blocks, *_work(graph, by_tensor, chains)]


def alive(graph: Graph) -> list[list[int]]:
    """Per op the ids of the activations and variables that have a value while it runs."""
    blocks = _tensors(graph)
    for chain in bands.of(graph):
        _prolong(blocks, chain)
    spans = {i: (block.first, block.last) for i, block in blocks.items()}
    return [[i for i, (first, last) in spans.items() if first <= n <= last] for n in range(len(graph.ops))]


def activation_peak(graph: Graph) -> int:
    """The most bytes of the arena that hold activations and variables at one time."""
    return max((_covered([graph.tensors[i] for i in ids]) for ids in alive(graph)), default=graph.arena)


def _covered(tensors: list[Tensor]) -> int:
    """Bytes that tensors cover; those that several share count once."""
    total = end = 0
    for tensor in sorted(tensors, key=lambda each: each.offset):
        total += max(0, tensor.offset + tensor.room - max(end, tensor.offset))
        end = max(end, tensor.offset + tensor.room)
    return total


def _blocks(graph: Graph, chains: list[Chain]) -> dict[int, Block]:
    """The block of each activation and variable, by tensor id."""
    blocks = _tensors(graph)
    for chain in chains:
        for i, rows in chain.kept().items():
            blocks[i].size = replace(graph.tensors[i], rows=rows).room
        _prolong(blocks, chain)
        _run_into(graph, blocks, chain)
    chained = {n for chain in chains for n in range(chain.first, chain.last + 1)}
    for n, op in enumerate(graph.ops):
        for i in op.outputs:
            shared = _in_place(graph, n, i, blocks) if n not in chained else None
            if shared:
                shared.last = blocks[i].last
                blocks[i] = shared
    return blocks


def _prolong(blocks: dict[int, Block], chain: Chain) -> None:
    """What a chain takes and gives is there from its first step to its last."""
    for block in blocks.values():
        if chain.first <= block.first <= chain.last:
            block.first = chain.first
        if chain.first <= block.last <= chain.last:
            block.last = chain.last


def _run_into(graph: Graph, blocks: dict[int, Block], chain: Chain) -> None:
    """Note which inputs the last output of a chain may run into."""
    output = chain.links[-1].output
    inner = set(chain.inner)
    for i in {i for each in chain.links for i in each.inputs if i not in inner}:
        distance = chain.lag(i, *(graph.tensors[t].nbytes // graph.tensors[t].shape[1] for t in (output, i)))
        if distance is not None and blocks[i].last == chain.last:
            blocks[output].lags[blocks[i]] = distance


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


def _work(graph: Graph, blocks: dict[int, Block], chains: list[Chain]) -> Iterator[Block]:
    """The blocks that ops work in; notes on the way which outputs may run into their input's place."""
    chained = {n for chain in chains for n in range(chain.first, chain.last + 1)}
    for n, (op, node) in enumerate(graph.nodes()):
        given, written = blocks.get(op.inputs[0]), blocks[op.outputs[0]]
        distance = lag(op.code, node) if n not in chained else None
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


def _grow(graph: Graph, blocks: list[Block], arena: int) -> None:
    """Place the blocks so that convolutions find more to work in, those of most products first."""
    costs = [_products(node) if op.code == CONV_2D else 0 for op, node in graph.nodes()]
    works = [each for each in blocks if each.alignment == WORK_ALIGNMENT and costs[each.first]]
    offsets = [each.offset for each in blocks]
    for block in sorted(works, key=lambda each: -costs[each.first]):
        size = block.size
        left = arena - _need(blocks, block.first)
        for share in GROWTH:
            block.size = size + int(left * share) // WORK_ALIGNMENT * WORK_ALIGNMENT
            if _place_well(blocks, arena) <= arena:
                offsets = [each.offset for each in blocks]
                break
            block.size = size
    for block, offset in zip(blocks, offsets, strict=True):
        block.offset = offset


def _products(node: Node) -> int:
    """Multiply-accumulates of a convolution."""
    weights = node.inputs[1]
    assert weights is not None
    return weights.size * node.outputs[0].size // weights.shape[0]


def _place_well(blocks: list[Block], enough: int = 0) -> int:
    """Give the blocks offsets in the smallest arena found, or one of `enough` bytes, and return its bytes.

    From the largest to the smallest, as TFLite Micro's greedy planner places them, but of equal ones the last
    first: it lies lower where it runs into the place of one before. Then, try by try, the block that came to
    lie at the top goes to an earlier turn.
    """
    order = _by_size(blocks)
    chance = random.Random(0)
    best, offsets, least = _place(order), [block.offset for block in blocks], _least(blocks)
    for _ in range(TRIES):
        if best <= max(least, enough) or (enough and least > enough):
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


def _by_size(blocks: list[Block]) -> list[Block]:
    return sorted(blocks, key=lambda block: (-block.size, -block.first))


def _least(blocks: list[Block]) -> int:
    """No arena is smaller."""
    return max(_need(blocks, each.first) for each in blocks)


def _need(blocks: list[Block], n: int) -> int:
    """What is alive together while op n runs, less what may run into another's place."""
    alive = [each for each in blocks if each.first <= n <= each.last]
    return sum(each.size - _shared(each, alive) for each in alive)


def _shared(block: Block, alive: list[Block]) -> int:
    """The most bytes that a block may have in common with those whose place it runs into."""
    lags = [(other, distance) for other, distance in block.lags.items() if other in alive]
    return min(block.size, sum(min(other.size, block.size - distance) for other, distance in lags))


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
