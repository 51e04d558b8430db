"""The graph part: a network as a list of integer ops (docs/pack-format.md, "Graph part")."""

from micropython import const

from .errors import PackError

ACTIVATION = const(0)
WEIGHTS = const(1)
CONSTANT = const(2)
VARIABLE = const(3)

INT8 = const(0)
INT32 = const(3)

_ITEM = b"\x01\x01\x02\x04\x08\x04\x01"
_MAX_RANK = const(6)
_LIMIT = const(0x3FFFFFFF)


class Tensor:
    """One tensor: `.kind .dtype .shape .scale .zero_point .place .count`; scale holds the bits of a float32.

    `place` is the offset in the arena, the weight number, or where in the graph part a constant's data stand.
    """

    def __init__(self, reader, arena):
        self.kind = reader.u8()
        self.dtype = reader.u8()
        rank = reader.u8()
        if self.kind > VARIABLE or self.dtype >= len(_ITEM) or rank > _MAX_RANK:
            raise PackError(f"a tensor of the graph has kind {self.kind}, dtype {self.dtype}, rank {rank}")
        self.shape = tuple([reader.varint() for _ in range(rank)])
        self.count = 1
        for size in self.shape:
            self.count *= size
            if not 0 < self.count <= _LIMIT:
                raise PackError(f"a tensor of the graph has the impossible shape {self.shape}")
        self.scale = self.zero_point = 0
        if self.kind == WEIGHTS:
            self.place = reader.varint()
            return
        self.scale = reader.u32()
        self.zero_point = reader.i16()
        if self.scale >= 0x7F800000 or (self.dtype == INT8 and not -128 <= self.zero_point <= 127):
            raise PackError("a tensor of the graph has a scale or zero point out of range")
        size = self.count * _ITEM[self.dtype]
        if self.kind == CONSTANT:
            if reader.u8() or reader.varint() != size:
                raise PackError(f"a constant of the graph does not have the {size} bytes of its shape")
            self.place = reader.position
            reader.skip(size)
            return
        self.place = reader.varint()
        if self.place + size > arena:
            raise PackError(f"a tensor of the graph does not fit in its arena of {arena} bytes")


class Node:
    """One op, its tensors: TFLite's builtin `.code`, `.inputs` (None if absent), `.outputs`, `.options`."""

    def __init__(self, reader, tensors):
        self.code = reader.u8()
        self.inputs = [_tensor(tensors, reader.varint()) for _ in range(reader.u8())]
        self.outputs = [_tensor(tensors, reader.varint()) for _ in range(reader.u8())]
        self.options = reader.read(reader.u8())
        if None in self.outputs:
            raise PackError("an op of the graph lacks an output")


class Graph:
    """`.nodes` in execution order, the tensors `.inputs` and `.outputs`, and `.arena` in bytes."""

    def __init__(self, reader):
        tensors, nodes, inputs, outputs, self.arena = _head(reader)
        tensors = [Tensor(reader, self.arena) for _ in range(tensors)]
        self.inputs = [_tensor(tensors, number + 1) for number in inputs]
        self.outputs = [_tensor(tensors, number + 1) for number in outputs]
        self.nodes = [Node(reader, tensors) for _ in range(nodes)]
        if reader.left:
            raise PackError(f"the graph is followed by {reader.left} bytes that belong to nothing")
        self._check_order()

    @staticmethod
    def arena_of(reader):
        """The bytes of the arena alone."""
        return _head(reader)[4]

    @classmethod
    def parse(cls, reader):
        """Raises PackError for anything that the format forbids."""
        return cls(reader)

    def _check_order(self):
        """Every op uses only what has a value by then."""
        ready = set()
        for tensor in self.inputs:
            _define(tensor, ready)
        for node in self.nodes:
            for tensor in node.inputs:
                if tensor and tensor.kind == ACTIVATION and id(tensor) not in ready:
                    raise PackError("an op of the graph uses a tensor that nothing before it gives")
            for tensor in node.outputs:
                _define(tensor, ready)
        for tensor in self.outputs:
            if id(tensor) not in ready:
                raise PackError("an output of the graph is a tensor that no op gives")


def _head(reader):
    """The counts of tensors and ops, the ids of inputs and outputs, and the arena."""
    form = reader.u8()
    if form != 1:
        raise PackError(f"the graph has form {form}, but this version reads form 1")
    tensors, nodes, inputs, outputs = [reader.varint() for _ in range(4)]
    if tensors + nodes + inputs + outputs > reader.left or not (inputs and outputs):
        raise PackError("the graph lists more than it has bytes for, or no inputs or outputs")
    inputs = [reader.varint() for _ in range(inputs)]
    outputs = [reader.varint() for _ in range(outputs)]
    return tensors, nodes, inputs, outputs, reader.varint()


def _tensor(tensors, number):
    """Tensor `number` - 1; None for 0."""
    if number > len(tensors):
        raise PackError(f"the graph names tensor {number - 1}, but there are {len(tensors)}")
    return tensors[number - 1] if number else None


def _define(tensor, ready):
    if tensor.kind != ACTIVATION or id(tensor) in ready:
        raise PackError("the graph writes a tensor twice, or one that is no activation")
    ready.add(id(tensor))
