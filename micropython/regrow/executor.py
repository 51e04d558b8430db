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

    def arena(self):
        self._graph.seek(0)
        return Graph.arena_of(self._graph)

    def graph(self):
        self._graph.seek(0)
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


class Executor:
    """A pack's network, ready to run: `.inputs` and `.outputs` are graph tensors.

    Its memory: `.arena` for activations, `.tile` for weights, `.scratch` for what an op needs while it runs.

    Raises PackError for a network that breaks the format or has an unknown op, CapacityError if the heap is
    too small for it.
    """

    def __init__(self, pack):
        plan = Plan(pack)
        # the arena first, while the heap is whole
        self.arena = _allocate(plan.arena(), 0)
        graph = plan.graph()
        self._steps = [_build(node, plan) for node in graph.nodes]
        tables = 12 * plan.channels
        self.tile = _allocate(plan.tile, plan.scratch + tables)
        self.scratch = _allocate(plan.scratch, tables)
        self.inputs = graph.inputs
        self.outputs = graph.outputs
        nodes = graph.nodes
        nodes.reverse()
        graph = None
        for step in self._steps:
            gc.collect()
            step.prepare(nodes.pop(), plan, self)
        gc.collect()

    def run(self):
        """From the inputs in the arena to the outputs there, all as level + 128."""
        for step in self._steps:
            step.run(self)


def _build(node, plan):
    if node.code not in _FAMILIES:
        raise PackError(f"the graph has an op with operator code {node.code}, which no kernel runs")
    package = __name__[: __name__.rfind(".")]
    gc.collect()
    module = __import__(package + ".kernels." + _FAMILIES[node.code], None, None, ("build",))
    return module.build(node, plan)


def _allocate(size, more):
    """A buffer, if the heap has room for it and for `more` bytes that come after."""
    gc.collect()
    free = gc.mem_free()
    try:
        if size + more <= free:
            return bytearray(size)
    except MemoryError:
        pass
    heap = free + gc.mem_alloc()
    raise CapacityError(f"the network needs {size + more} more bytes of heap and {free} of {heap} are free")


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
