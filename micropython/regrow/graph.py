"""The graph part: a network as a list of integer ops (docs/pack-format.md, "Graph part"), read op by op."""

from array import array

from micropython import const

from .errors import PackError

ACTIVATION = const(0)
WEIGHTS = const(1)
CONSTANT = const(2)
VARIABLE = const(3)
_BAND = const(4)

INT8 = const(0)
UINT8 = const(1)
INT32 = const(3)

_ITEM = b"\x01\x01\x02\x04\x08\x04\x01"
_MAX_RANK = const(6)
_LIMIT = const(0x3FFFFFFF)


class Tensor:
    """One tensor: `.kind .dtype .shape .scale .zero_point .place .count .size`; scale has a float32's bits.

    `room` is the bytes of the arena it takes, below `size` if only some of its rows are there at one time.
    `place` is the offset in the arena, the weight number, or where in the graph part a constant's data stand;
    `coded` is their form; `fill` is the byte that a variable starts with. A uint8 activation is shown as the
    int8 it stands for.
    """

    def __init__(self, reader, arena):
        self.kind = reader.u8()
        self.dtype = reader.u8()
        rank = reader.u8()
        if self.kind > _BAND or self.dtype >= len(_ITEM) or rank > _MAX_RANK:
            raise PackError(f"a tensor of the graph has kind {self.kind}, dtype {self.dtype}, rank {rank}")
        self.shape = tuple([reader.varint() for _ in range(rank)])
        self.count = 1
        for size in self.shape:
            self.count *= size
            if not 0 < self.count <= _LIMIT:
                raise PackError(f"a tensor of the graph has the impossible shape {self.shape}")
        self.size = self.room = self.count * _ITEM[self.dtype]
        self.scale = self.zero_point = 0
        if self.kind == WEIGHTS:
            self.place = reader.varint()
            return
        self.scale = reader.u32()
        self.zero_point = reader.i16()
        self.unsigned = self.dtype == UINT8 and self.kind != CONSTANT
        if self.unsigned:
            self.dtype = INT8
            self.zero_point -= 128
        if self.scale >= 0x7F800000 or (self.dtype == INT8 and not -128 <= self.zero_point <= 127):
            raise PackError("a tensor of the graph has a scale or zero point out of range")
        if self.kind == CONSTANT:
            self.coded = reader.u8()
            size = reader.varint()
            if self.coded > (self.dtype == INT32) or (not self.coded and size != self.size):
                raise PackError(f"a constant of the graph does not have the {self.size} bytes of its shape")
            self.place = reader.position
            reader.skip(size)
            return
        self.place = reader.varint()
        if self.kind == VARIABLE:
            self.fill = reader.u8()
        if self.kind == _BAND:
            self.kind = ACTIVATION
            rows = reader.varint()
            if rank != 4 or not 0 < rows < self.shape[1]:
                raise PackError(f"a tensor of the graph has the impossible shape {self.shape}")
            self.room = self.size // self.shape[1] * rows
        if self.place + self.room > arena:
            raise PackError(f"a tensor of the graph does not fit in its arena of {arena} bytes")


class Op:
    """One op: TFLite's builtin `.code`, `.inputs` (None if absent), `.outputs`, `.options`."""

    def __init__(self, reader):
        self.code = reader.u8()
        self.inputs = [reader.varint() - 1 for _ in range(reader.u8())]
        self.outputs = [reader.varint() - 1 for _ in range(reader.u8())]
        self.options = reader.read(reader.u8())


class Graph:
    """`.inputs` and `.outputs` (ids of tensors), `.arena` in bytes, `.length` in ops, `tensor` and `ops`."""

    def __init__(self, reader):
        """Raises PackError for anything that the format forbids."""
        self._reader = reader
        if reader.u8() != 1:
            raise PackError("the graph has a form that this version does not know")
        tensors, self.length, inputs, outputs = [reader.varint() for _ in range(4)]
        if tensors + self.length + inputs + outputs > reader.left or not (inputs and outputs):
            raise PackError("the graph lists more than it has bytes for, or no inputs or outputs")
        self.inputs = [reader.varint() for _ in range(inputs)]
        self.outputs = [reader.varint() for _ in range(outputs)]
        self.arena = reader.varint()
        self._positions = array("i", bytes(4 * tensors))
        for i in range(tensors):
            self._positions[i] = reader.position
            Tensor(reader, self.arena)
        self._body = reader.position

    def __len__(self):
        """How many tensors there are."""
        return len(self._positions)

    def tensor(self, number):
        """The tensor of that id; None for -1."""
        if number < 0:
            return None
        if number >= len(self):
            raise PackError("the graph uses a tensor that it does not have")
        self._reader.seek(self._positions[number])
        return Tensor(self._reader, self.arena)

    def ops(self):
        """The ops in execution order, with their tensors; each is read when it is asked for."""
        for op in self.bare():
            op.inputs = [self.tensor(number) for number in op.inputs]
            op.outputs = [self.tensor(number) for number in op.outputs]
            yield op

    def variables(self):
        for number in range(len(self)):
            tensor = self.tensor(number)
            if tensor.kind == VARIABLE:
                yield tensor

    def bare(self):
        """The ops with the ids of their tensors."""
        position = self._body
        for _ in range(self.length):
            self._reader.seek(position)
            op = Op(self._reader)
            position = self._reader.position
            yield op
        self._reader.seek(position)
        if self.length and self._reader.left:
            raise PackError(f"the graph is followed by {self._reader.left} bytes that belong to nothing")
