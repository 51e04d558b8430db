"""The tile executor: integer ops in viper, the weights grown tile by tile into buffers planned at load."""

import gc

import micropython

from .errors import CapacityError, PackError
from .graph import Graph
from .pack import ROLE_GRAPH, ROLE_WEIGHTS, USE_EXECUTOR
from .weights import Scratch, Weights

_FAMILIES = {
    0: "add",
    1: "pool",
    3: "conv",
    4: "depthwise",
    9: "conv",
    17: "pool",
    22: "reshape",
    25: "softmax",
}


class Plan:
    """What the steps of a network ask for while it is loaded."""

    def __init__(self, pack):
        self._pack = pack
        self._graph = pack.reader(pack.part(ROLE_GRAPH, USE_EXECUTOR))
        self._decoding = Scratch()
        self.tile = self.scratch = self.channels = 0

    def graph(self):
        return Graph.parse(self._graph)

    def need(self, tile, scratch, channels=0):
        """Have so many bytes for a tile of weights, as scratch of an op, and tables for so many channels."""
        self.tile = max(self.tile, tile)
        self.scratch = max(self.scratch, scratch)
        self.channels += channels

    def weights(self, tensor):
        """The weights of a tensor; PackError unless they are as many levels as it has."""
        weights = Weights(
            self._pack.reader(self._pack.part(ROLE_WEIGHTS, USE_EXECUTOR, tensor.place)), self._decoding
        )
        if weights.count != tensor.count or weights.dtype:
            raise PackError(
                f"weights {tensor.place} are {weights.count} of dtype {weights.dtype}, "
                f"but the graph needs {tensor.count} levels"
            )
        return weights

    def read(self, tensor, values):
        """Fill an array('i') with the data of an int32 constant."""
        self._graph.seek(tensor.place)
        self._graph.readinto(values, 4 * tensor.count)


class Buffers:
    """The memory of a network: activations, the tile of weights, and what an op needs while it runs."""

    def __init__(self, arena, tile, scratch):
        self.arena = bytearray(arena)
        self.tile = bytearray(tile)
        self.scratch = bytearray(scratch)


class Executor:
    """A pack's network, ready to run: `.inputs` and `.outputs` are graph tensors, `.arena` their memory.

    Raises PackError for a network that breaks the format or has an unknown op, CapacityError if the heap is
    too small for it.
    """

    def __init__(self, pack):
        plan = Plan(pack)
        graph = plan.graph()
        self._steps = [_build(node, plan) for node in graph.nodes]
        self.inputs = graph.inputs
        self.outputs = graph.outputs
        self._buffers = _allocate(graph.arena, plan)
        self.arena = self._buffers.arena
        nodes = graph.nodes
        nodes.reverse()
        graph = None
        try:
            for step in self._steps:
                step.prepare(nodes.pop(), plan, self._buffers)
        except MemoryError:
            raise CapacityError(f"the heap of {_heap()} bytes is full before the network is loaded") from None
        gc.collect()

    def run(self):
        """From the inputs in the arena to the outputs there, all as level + 128."""
        buffers = self._buffers
        for step in self._steps:
            step.run(buffers)


def _build(node, plan):
    if node.code not in _FAMILIES:
        raise PackError(f"the graph has an op with operator code {node.code}, which no kernel runs")
    package = __name__[: __name__.rfind(".")]
    module = __import__(package + ".kernels." + _FAMILIES[node.code], None, None, ("build",))
    return module.build(node, plan)


def _allocate(arena, plan):
    """The buffers, if the heap has room for them and for the tables that come after."""
    gc.collect()
    needed = arena + plan.tile + plan.scratch + 12 * plan.channels
    free = gc.mem_free()
    try:
        if needed <= free:
            return Buffers(arena, plan.tile, plan.scratch)
    except MemoryError:
        pass
    raise CapacityError(f"the network needs {needed} bytes of heap and {free} of {_heap()} are free")


def _heap():
    return gc.mem_free() + gc.mem_alloc()


@micropython.viper
def flip(source: ptr8, source_at: int, target: ptr8, target_at: int, count: int):
    """Copy bytes between level and level + 128."""
    s = ptr8(uint(source) + source_at)
    t = ptr8(uint(target) + target_at)
    while count:
        t[0] = s[0] ^ 0x80
        s = ptr8(uint(s) + 1)
        t = ptr8(uint(t) + 1)
        count -= 1
