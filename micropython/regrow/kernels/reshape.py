"""RESHAPE: the same values in the same order."""

import micropython

from ..errors import PackError
from ..graph import WEIGHTS


def build(node, plan):
    return Reshape(node)


class Reshape:
    def __init__(self, node):
        if not 1 <= len(node.inputs) <= 2 or not node.inputs[0] or len(node.outputs) != 1 or node.options:
            raise PackError("a RESHAPE of the graph has no input, no output, or options")
        x, y = node.inputs[0], node.outputs[0]
        if x.count != y.count or x.dtype or y.dtype or x.kind == WEIGHTS:
            raise PackError(f"a RESHAPE of the graph turns {x.shape} into {y.shape}")
        self.source, self.target, self.count = x.place, y.place, y.count

    def prepare(self, node, plan, buffers):
        pass

    def run(self, buffers):
        if self.source != self.target:
            move(buffers.arena, self.source, self.target, self.count)


@micropython.viper
def move(arena: ptr8, source: int, target: int, count: int):
    while count:
        arena[target] = arena[source]
        source += 1
        target += 1
        count -= 1
