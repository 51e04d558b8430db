"""Write a device graph as a graph part (docs/pack-format.md)."""

from __future__ import annotations

import struct

import numpy as np
from regrow import graph as device
from regrow.graph import BAND, DTYPES, VARIABLE, WEIGHTS, Graph

from . import rice
from .varint import varint


def write(graph: Graph) -> bytes:
    """The bytes of the graph part."""
    head = [len(graph.tensors), len(graph.ops), len(graph.inputs), len(graph.outputs)]
    numbers = [*head, *graph.inputs, *graph.outputs, graph.arena]
    tensors, ops = map(_tensor, graph.tensors), map(_op, graph.ops)
    return bytes([device.FORM]) + _varints(numbers) + b"".join(tensors) + b"".join(ops)


def _tensor(tensor: device.Tensor) -> bytes:
    kind = BAND if tensor.rows else tensor.kind
    head = bytes([kind, DTYPES.index(tensor.dtype), len(tensor.shape)]) + _varints(tensor.shape)
    if tensor.kind == WEIGHTS:
        return head + varint(tensor.number)
    head += struct.pack("<fh", tensor.scale, tensor.zero_point)
    if tensor.data is None:
        fill = bytes([tensor.fill]) if tensor.kind == VARIABLE else b""
        return head + varint(tensor.offset) + fill + (varint(tensor.rows) if tensor.rows else b"")
    data = tensor.data.astype(tensor.dtype.newbyteorder("<")).tobytes()
    coded = _coded(tensor.data.ravel().tolist()) if tensor.dtype == np.int32 else None
    if coded and len(coded) < len(data):
        return head + bytes([device.CODED]) + varint(len(coded)) + coded
    return head + bytes([device.PLAIN]) + varint(len(data)) + data


def _coded(values: list[int]) -> bytes | None:
    """Rice codes of the values without the low bits that are 0, in all or in each; None if too large."""
    common, high = rice.shifted(values)
    zeros = sorted(rice.zeros(value) for value in values if value)
    usual = zeros[len(zeros) // 2] if zeros else 0
    shifts = [rice.zeros(value) if value else usual for value in values]
    bare = [value >> shift for value, shift in zip(values, shifts, strict=True)]
    if not -rice.LARGEST <= min(high) <= max(high) <= rice.LARGEST:
        return None
    alike = bytes([common]) + rice.write(high)
    apart = bytes([device.APART + usual]) + rice.write([each - usual for each in shifts]) + rice.write(bare)
    return min(alike, apart, key=len)


def _op(op: device.Op) -> bytes:
    tensors = [bytes([len(ids)]) + _varints([i + 1 for i in ids]) for ids in (op.inputs, op.outputs)]
    return bytes([op.code]) + b"".join(tensors) + bytes([len(op.options)]) + op.options


def _varints(values: list[int] | tuple[int, ...]) -> bytes:
    return b"".join(map(varint, values))
