"""What is known of a network before its resident form is written: what modules that takes, where ops work."""

from array import array

from micropython import const

from .errors import PackError
from .graph import ACTIVATION, VARIABLE, Graph
from .install import family
from .weights import Scratch, Weights

_ALIGNMENT = const(8)
_NEVER = const(-2)


def needs(parts):
    """The modules of layouts that the pack with those parts takes, in a set, and what its decoders need of a
    Scratch: the bytes of the table and how many halves."""
    modules = set()
    scratch = Scratch()
    for number in parts.numbers():
        Weights(parts.weights(number), scratch)
    graph = Graph(parts.graph())
    for op in graph.bare():
        modules.add(f"layouts.{family(op.code)}")
    for number in range(len(graph)):
        if _is_band(graph.tensor(number)):
            modules.add("layouts.bands")
    return modules, len(scratch.table), len(scratch.halves)


def plan(graph, least):
    """The bytes of memory, and an array of the place and the bytes there in which each op works: the largest
    stretch that no value takes.

    The memory is the arena, longer if an op finds no stretch free in it of the `least(op)` bytes it needs.
    Raises PackError unless every op has its values.
    """
    values = Values(graph)
    memory = graph.arena
    for n, op in enumerate(graph.ops()):
        wanted = least(op)
        if wanted:
            places = [place for place, size in values.gaps(n, 1 << 30) if size >= wanted]
            memory = max(memory, places[0] + wanted)
    stretches = array("i")
    for n in range(graph.length):
        stretches.extend(array("i", max(values.gaps(n, memory), key=lambda gap: gap[1])))
    return memory, stretches


class Values:
    """When each tensor of a graph has a value, and where."""

    def __init__(self, graph):
        """Note the op that writes and the last one that reads each activation; every op uses only those."""
        count = len(graph)
        self._kinds = bytearray(count)
        self._bands = bytearray(count)
        self._places = array("i", bytes(4 * count))
        self._ends = array("i", self._places)
        self._first = array("h", [_NEVER] * count)
        self._last = array("h", self._first)
        for i in range(count):
            tensor = graph.tensor(i)
            self._kinds[i] = tensor.kind
            self._bands[i] = _is_band(tensor)
            self._places[i] = tensor.place
            self._ends[i] = tensor.place + tensor.room
        n = first = 0
        for number in graph.inputs:
            self._write(number, -1)
            self._read(number, -1, 0)
        for op in graph.bare():
            for number in op.inputs:
                if number >= 0:
                    self._read(number, n, first)
            for number in op.outputs:
                self._write(number, n)
            n += 1
            if not op.outputs or not self._bands[op.outputs[0]]:
                # what ops that run band by band take and give is there from the first to the last of them
                for spans in (self._first, self._last) if n - first > 1 else ():
                    for i in range(count):
                        if first <= spans[i] < n:
                            spans[i] = first if spans is self._first else n - 1
                first = n
        for number in graph.outputs:
            self._read(number, n, n)

    def gaps(self, n, memory):
        """[place, size] of the stretches of the memory where none stands while op n runs."""
        spans = []
        for i in range(len(self._kinds)):
            kind = self._kinds[i]
            if kind == VARIABLE or (kind == ACTIVATION and self._first[i] <= n <= self._last[i]):
                spans.append((self._places[i], self._ends[i]))
        spans.sort()
        gaps = []
        start = 0
        for place, end in spans:
            if place > start:
                gaps.append((start, place - start))
            start = max(start, (end + _ALIGNMENT - 1) & -_ALIGNMENT)
        gaps.append((start, max(0, memory - start)))
        return gaps

    def _read(self, number, n, first):
        """Op n of those from `first` on, which run band by band, reads a tensor."""
        if number >= len(self._kinds) or (self._kinds[number] == ACTIVATION and self._last[number] == _NEVER):
            raise PackError("the graph uses a tensor that nothing before gives")
        if self._bands[number] and self._first[number] < first:
            raise PackError("the graph uses a tensor of which only some rows are left")
        self._last[number] = n

    def _write(self, number, n):
        if not 0 <= number < len(self._kinds) or self._kinds[number] not in (ACTIVATION, VARIABLE):
            raise PackError("the graph writes a tensor that is no activation")
        if self._kinds[number] == ACTIVATION and self._first[number] != _NEVER:
            raise PackError("the graph writes a tensor twice")
        self._first[number] = self._last[number] = n


def _is_band(tensor):
    return tensor.room < tensor.size
