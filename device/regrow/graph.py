"""The graph part: a network as a list of integer ops (docs/pack-format.md, "Graph part")."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrow import kernels, rice
from regrow.errors import PackError
from regrow.kernels.base import WeightSource
from regrow.reader import Reader

Array = NDArray[Any]

ACTIVATION, WEIGHTS, CONSTANT, VARIABLE, BAND = range(5)
DTYPES = tuple(np.dtype(t) for t in ("int8", "uint8", "int16", "int32", "int64", "float32", "bool"))
FORM = 1
PLAIN, CODED = 0, 1
APART = 128
MAX_RANK = 6
LIMIT = 1 << 31


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor. Which of `offset`, `number`, `data` and `fill` (each byte of a variable at load) counts
    depends on `kind`. `rows`: of an activation of which only so many stand in a board's arena at one time
    (kind BAND in the file), otherwise 0."""

    kind: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    scale: float = 0.0
    zero_point: int = 0
    offset: int = 0
    number: int = 0
    data: Array | None = None
    fill: int = 0
    rows: int = 0

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def room(self) -> int:
        """The bytes of it that stand in the arena at one time."""
        return self.nbytes // self.shape[1] * self.rows if self.rows else self.nbytes

    @property
    def as_levels(self) -> "Tensor":
        """The tensor as ops see it: a uint8 activation holds the int8 values that are 128 less."""
        if self.kind != ACTIVATION or self.dtype != np.uint8:
            return self
        return replace(self, dtype=np.dtype(np.int8), zero_point=self.zero_point - 128)


@dataclass(frozen=True, slots=True)
class Op:
    """One operator: its TFLite builtin code, tensor ids (-1 for an absent input) and option bytes."""

    code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: bytes = b""


@dataclass(frozen=True, slots=True)
class Node:
    """An op with its tensors at hand, as kernels take it."""

    options: bytes
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """Tensors, ops in execution order, the ids of inputs and outputs, and the arena in bytes."""

    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    arena: int

    @classmethod
    def parse(cls, reader: Reader) -> "Graph":
        """Read and check a whole graph part; raises PackError for anything the format forbids."""
        if (form := reader.u8()) != FORM:
            raise PackError(f"the graph has form {form}, but this version reads form {FORM}")
        counts = [reader.varint() for _ in range(4)]
        if sum(counts) > reader.left:
            raise PackError("the graph lists more tensors and ops than it has bytes for")
        tensors, ops, inputs, outputs = counts
        graph_inputs = tuple(reader.varint() for _ in range(inputs))
        graph_outputs = tuple(reader.varint() for _ in range(outputs))
        arena = reader.varint()
        graph = cls(
            tuple(_tensor(reader) for _ in range(tensors)),
            tuple(_op(reader) for _ in range(ops)),
            graph_inputs,
            graph_outputs,
            arena,
        )
        if reader.left:
            raise PackError(f"the graph is followed by {reader.left} bytes that belong to nothing")
        graph.check()
        return graph

    def check(self) -> None:
        """Raise PackError unless ids, definitions, arena and the shapes of every op fit together."""
        for i, tensor in enumerate(self.tensors):
            if tensor.kind in (ACTIVATION, VARIABLE) and tensor.offset + tensor.room > self.arena:
                raise PackError(f"tensor {i} of the graph does not fit the arena of {self.arena} bytes")
        self._check_order()
        for i, op in enumerate(self.ops):
            kernel = kernels.KERNELS.get(op.code)
            if kernel is None:
                raise PackError(f"op {i} of the graph has operator code {op.code}, which no kernel runs")
            try:
                kernel.check(self.node(op))
            except PackError as error:
                raise PackError(f"op {i} of the graph ({kernel.name}) {error}") from None

    def check_weights(self, weights: Callable[[int], WeightSource]) -> None:
        """Raise PackError unless the weights of every number have the size that the graph gives them."""
        for tensor in self.tensors:
            if tensor.kind == WEIGHTS and (count := weights(tensor.number).count) != tensor.size:
                raise PackError(f"weights {tensor.number} are {count}, but the graph needs {tensor.size}")

    def node(self, op: Op) -> Node:
        inputs = tuple(self.tensors[i].as_levels if i >= 0 else None for i in op.inputs)
        return Node(op.options, inputs, tuple(self.tensors[i].as_levels for i in op.outputs))

    def nodes(self) -> Iterator[tuple[Op, Node]]:
        return ((op, self.node(op)) for op in self.ops)

    def _check_order(self) -> None:
        if not self.inputs or not self.outputs:
            raise PackError("the graph has no inputs or no outputs")
        defined = {i for i, tensor in enumerate(self.tensors) if tensor.kind != ACTIVATION}
        for i in self.inputs:
            self._define(i, defined, "an input of the graph")
        for n, op in enumerate(self.ops):
            if not defined.issuperset(i for i in op.inputs if i >= 0):
                raise PackError(f"op {n} of the graph uses a tensor that nothing before it gives")
            for i in op.outputs:
                if not self._is_variable(i):
                    self._define(i, defined, f"op {n} of the graph")
        if not defined.issuperset(self.outputs) or any(
            self.tensors[i].kind != ACTIVATION for i in self.outputs
        ):
            raise PackError("an output of the graph is a tensor that no op gives")

    def _is_variable(self, i: int) -> bool:
        return 0 <= i < len(self.tensors) and self.tensors[i].kind == VARIABLE

    def _define(self, i: int, defined: set[int], who: str) -> None:
        if not 0 <= i < len(self.tensors):
            raise PackError(f"{who} names tensor {i}, but there are {len(self.tensors)}")
        if i in defined:
            raise PackError(f"{who} writes tensor {i}, which has a value already")
        defined.add(i)


def _tensor(reader: Reader) -> Tensor:
    kind, code, rank = reader.u8(), reader.u8(), reader.u8()
    if kind > BAND or code >= len(DTYPES) or rank > MAX_RANK:
        raise PackError(f"a tensor of the graph has kind {kind}, dtype {code} and rank {rank}")
    dtype = DTYPES[code]
    shape = tuple(reader.varint() for _ in range(rank))
    size = math.prod(shape) * dtype.itemsize
    if not 0 < size < LIMIT:
        raise PackError(f"a tensor of the graph has the impossible shape {shape}")
    if kind == WEIGHTS:
        return Tensor(kind, dtype, shape, number=reader.varint())
    scale, zero_point = reader.f32(), reader.i16()
    if not (math.isfinite(scale) and scale >= 0) or not _holds(dtype, zero_point):
        raise PackError(f"a tensor of the graph has scale {scale} and zero point {zero_point}")
    if kind == CONSTANT:
        return Tensor(kind, dtype, shape, scale, zero_point, data=_constant(reader, dtype, shape, size))
    offset = reader.varint()
    if kind == BAND:
        if not (rank == 4 and 0 < (rows := reader.varint()) < shape[1]):
            raise PackError(f"a tensor of the graph with the shape {shape} cannot be there in part")
        return Tensor(ACTIVATION, dtype, shape, scale, zero_point, offset=offset, rows=rows)
    fill = reader.u8() if kind == VARIABLE else 0
    return Tensor(kind, dtype, shape, scale, zero_point, offset=offset, fill=fill)


def _holds(dtype: np.dtype[Any], zero_point: int) -> bool:
    if dtype.kind not in "iu":
        return zero_point == 0
    return int(np.iinfo(dtype).min) <= zero_point <= int(np.iinfo(dtype).max)


def _constant(reader: Reader, dtype: np.dtype[Any], shape: tuple[int, ...], size: int) -> Array:
    form, stored = reader.u8(), reader.varint()
    if form == CODED and dtype == np.int32:
        return _coded(reader, size // dtype.itemsize, stored).reshape(shape)
    if form != PLAIN or stored != size:
        raise PackError(f"a constant of the graph has form {form} and {stored} bytes instead of {size}")
    return np.frombuffer(reader.read(size), dtype.newbyteorder("<")).astype(dtype).reshape(shape)


def _coded(reader: Reader, count: int, stored: int) -> Array:
    end = reader.position + stored
    shift = reader.u8()
    shifts = [shift % APART] * count
    if shift >= APART:
        shifts = [shift % APART + more for more in rice.read(reader, count)]
    bare = np.array(rice.read(reader, count), np.int64)
    if reader.position != end or not 0 <= min(shifts) <= max(shifts) <= 31:
        raise PackError("a coded constant of the graph is out of range, or does not end where it should")
    values: Array = bare << np.array(shifts)
    if not -LIMIT <= values.min() <= values.max() < LIMIT:
        raise PackError("a coded constant of the graph is out of range")
    return np.asarray(values, np.int32)


def _op(reader: Reader) -> Op:
    code = reader.u8()
    inputs = tuple(reader.varint() - 1 for _ in range(reader.u8()))
    outputs = tuple(reader.varint() - 1 for _ in range(reader.u8()))
    return Op(code, inputs, outputs, bytes(reader.read(reader.u8())))
