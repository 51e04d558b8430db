"""Chains of ops that run band by band, so that of what is between them only some rows stand in the arena.

A chain is some ops in a row, each of whose outputs but the last one's serves only that chain. A step makes so
many more rows of the last output, and before them what those need of the outputs before. The board has the
same in micropython/regrow/layouts/bands.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from regrow.graph import ACTIVATION, Graph

from .work import ADD, CONV_2D, LOOKUP, POOLS, alike, rows

LONGEST = 8  # ops of a chain
STEP = 64  # positions of the last output that are worth a step


@dataclass(frozen=True)
class Link:
    """An op of a chain: row y of its output takes `reach` rows of its inputs from row y * stride - top on."""

    inputs: tuple[int, ...]
    output: int
    given: int
    stride: int = 1
    top: int = 0
    reach: int = 1

    def ahead(self, count: int) -> int:
        """The rows of its inputs, from the first on, that so many rows of the output need."""
        return min(self.given, max(0, (count - 1) * self.stride - self.top + self.reach)) if count else 0

    def behind(self, count: int) -> int:
        """The first row of its inputs that is needed when so many rows of the output are there."""
        return min(self.given, max(0, count * self.stride - self.top))


def link(graph: Graph, n: int) -> Link | None:
    """Op n as a link of a chain, if it can be one."""
    op = graph.ops[n]
    node = graph.node(op)
    output = node.outputs[0]
    images = [i for i in op.inputs if i >= 0 and graph.tensors[i].kind == ACTIVATION]
    if output.kind != ACTIVATION or len(output.shape) != 4 or output.shape[0] != 1 or not images:
        return None
    if (op.code == ADD and alike(node)) or op.code == LOOKUP:
        return Link(tuple(images), op.outputs[0], output.shape[1])
    if op.code == CONV_2D or op.code in POOLS:
        y = rows(op.code, node)
        return Link((images[0],), op.outputs[0], y.given, y.stride, y.padding[0], y.reach)
    return None


@dataclass(frozen=True)
class Chain:
    """Ops `first` to `last` of a graph; a step makes `rows` rows of the last output."""

    first: int
    links: tuple[Link, ...]
    height: int
    rows: int

    @property
    def last(self) -> int:
        return self.first + len(self.links) - 1

    @property
    def steps(self) -> int:
        return -(-self.height // self.rows)

    @property
    def inner(self) -> list[int]:
        """The tensors of which only some rows stand in the arena."""
        return [each.output for each in self.links[:-1]]

    def ends(self, count: int) -> dict[int, int]:
        """How many rows of each tensor are there when `count` rows of the last output are."""
        ends = {self.links[-1].output: count}
        for each in reversed(self.links):
            for i in each.inputs:
                ends[i] = max(ends.get(i, 0), each.ahead(ends[each.output]))
        return ends

    def starts(self, ends: dict[int, int]) -> dict[int, int]:
        """The first row of each input that is needed from then on."""
        starts = dict(ends)
        for each in self.links:
            for i in each.inputs:
                starts[i] = min(starts[i], each.behind(ends[each.output]))
        return starts

    def kept(self) -> dict[int, int]:
        """Rows of each inner tensor in the arena."""
        kept = dict.fromkeys(self.inner, 0)
        for step in range(self.steps):
            before = self.ends(step * self.rows)
            starts, ends = self.starts(before), self.ends(min(self.height, (step + 1) * self.rows))
            for i in kept:
                kept[i] = max(kept[i], ends[i] - starts[i])
        return kept

    def records(self) -> Iterator[int]:
        """Which op each record that the board writes is of; rows that a step moves are their writer's."""
        starts = before = self.ends(0)
        for step in range(self.steps):
            last, starts = starts, self.starts(before)
            ends = self.ends(min(self.height, (step + 1) * self.rows))
            outputs = [each.output for each in self.links]
            yield from (self.first + n for n, i in enumerate(outputs[:-1]) if last[i] < starts[i] < before[i])
            yield from (self.first + n for n, i in enumerate(outputs) if not step or before[i] < ends[i])
            before = ends

    def saves(self, graph: Graph) -> bool:
        """Whether it leaves out rows of every inner tensor."""
        return all(rows < graph.tensors[i].shape[1] for i, rows in self.kept().items())

    def lag(self, i: int, row: int, image_row: int) -> int | None:
        """How many bytes the last output, of `row` bytes a row, must begin before tensor i, which the chain
        takes, so that it may run into its place; None if it must stand apart."""
        final = self.links[-1]
        lags = [-self.height * row]
        if i in final.inputs:
            if final.reach > 1 or final.stride > 1 or row != image_row:
                return None
            lags.append(0)
        users = [each for each in self.links[:-1] if i in each.inputs]
        whole = self.ends(self.height)
        for step in range(1, self.steps):
            ends = self.ends(step * self.rows)
            for each in users:
                if ends[each.output] < whole[each.output]:
                    lags.append(step * self.rows * row - each.behind(ends[each.output]) * image_row)
        return max(lags)


def candidates(graph: Graph, step: int = STEP) -> list[Chain]:
    """All chains of a graph, with the fewest rows that make `step` positions at a time."""
    links = [link(graph, n) for n in range(len(graph.ops))]
    users: dict[int, list[int]] = {i: [len(links)] for i in graph.outputs}
    for n, op in enumerate(graph.ops):
        for i in op.inputs:
            users.setdefault(i, []).append(n)
    found: list[Chain] = []
    for first in range(len(links)):
        chain: list[Link] = []
        for last in range(first, min(first + LONGEST, len(links))):
            one = links[last]
            if one is None:
                break
            chain.append(one)
            inner = [each.output for each in chain[:-1]]
            if inner and all(max(users.get(i, [len(links)])) <= last for i in inner):
                _, height, width, _ = graph.tensors[one.output].shape
                one_by_one = Chain(first, tuple(chain), height, -(-step // width))
                if one_by_one.saves(graph):
                    found.append(one_by_one)
    return found


def of(graph: Graph) -> list[Chain]:
    """The chains of a planned graph: of each the most rows a step for which its inner tensors have room."""
    found = []
    links: list[Link] = []
    for n, op in enumerate(graph.ops):
        inner = graph.tensors[op.outputs[0]].rows > 0
        if not (inner or links):
            continue
        one = link(graph, n)
        assert one is not None
        links.append(one)
        if not inner:
            found.append(_widest(graph, n + 1 - len(links), tuple(links)))
            links = []
    return found


def _widest(graph: Graph, first: int, links: tuple[Link, ...]) -> Chain:
    height = graph.tensors[links[-1].output].shape[1]
    for step in range(height, 1, -1):
        chain = Chain(first, links, height, step)
        if all(kept <= graph.tensors[i].rows for i, kept in chain.kept().items()):
            return chain
    return Chain(first, links, height, 1)


def records(graph: Graph) -> list[int]:
    """Which op each record of a planned graph's resident form is of."""
    found: list[int] = []
    chains = {chain.first: chain for chain in of(graph)}
    n = 0
    while n < len(graph.ops):
        found += chains[n].records() if n in chains else [n]
        n = chains[n].last + 1 if n in chains else n + 1
    return found
