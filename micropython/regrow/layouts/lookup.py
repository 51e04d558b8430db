"""LOOKUP: any function of one value of 8 bits."""

from ..errors import PackError
from ..graph import CONSTANT
from .checks import value


def lay(op, out):
    """The record holds the outputs for the 256 inputs, both as level + 128."""
    if len(op.inputs) != 2 or len(op.outputs) != 1 or len(op.options) != 1:
        raise PackError("a LOOKUP of the graph does not have two inputs, an output and an option")
    x, table, y = value(op.inputs[0]), op.inputs[1], value(op.outputs[0])
    if not table or table.kind != CONSTANT or table.size != 256 or table.count != 256:
        raise PackError("a LOOKUP of the graph has a table that is no constant of 256 bytes")
    if x.shape != y.shape:
        raise PackError("a LOOKUP of the graph changes the shape")
    yield 256
    out.params(x.place, y.place, x.count)
    levels = out.constant(table).read(256)
    out.write(bytes([levels[i ^ 0x80] ^ 0x80 for i in range(256)]))
