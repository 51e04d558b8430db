"""The skeleton part: a `.tflite` without its weights, and how it grows whole again."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from regrow.codecs import INT8
from regrow.errors import PackError
from regrow.pack import ROLE_SKELETON, ROLE_WEIGHTS, USE_LITERT, Pack
from regrow.reader import Reader
from regrow.weights import Weights

FORM = 1
DTYPES = (np.dtype("<i1"), np.dtype("<f4"), np.dtype("<f2"), np.dtype("<u1"))
PIECE = 1 << 16
"""Bytes of the file that are in memory at one time, and at most as many packed ones."""


@dataclass(frozen=True)
class Hole:
    """Where in the file a weight tensor goes, and as what."""

    offset: int
    number: int
    dtype: np.dtype[Any]


def size(pack: Pack) -> int:
    """Bytes of the whole `.tflite`."""
    return _parse(_reader(pack))[0]


def regrow(pack: Pack, file: BinaryIO) -> None:
    """Write the whole `.tflite` to `file`, piece by piece; PackError where skeleton and weights disagree."""
    for piece in pieces(pack):
        file.write(piece)


def pieces(pack: Pack) -> Iterator[bytes]:
    """The bytes of the whole `.tflite` in order, in pieces of at most PIECE bytes."""
    reader = _reader(pack)
    end, holes = _parse(reader)
    gaps = _Gaps(reader)
    position = 0
    parts = (pack.part(ROLE_WEIGHTS, USE_LITERT, hole.number) for hole in holes)
    tensors = Weights.side_by_side(Weights(pack.reader(part)) for part in parts)
    for hole, weights in zip(holes, tensors, strict=True):
        if hole.offset < position:
            raise PackError(f"weights {hole.number} of the skeleton overlap those before them")
        after = hole.offset + weights.count * hole.dtype.itemsize
        if after > end:
            raise PackError(f"weights {hole.number} of the skeleton pass the end of the file")
        yield from gaps.pieces(hole.offset - position)
        yield from _grown(weights, hole)
        position = after
    yield from gaps.pieces(end - position)
    gaps.finish()


def _reader(pack: Pack) -> Reader:
    return pack.reader(pack.part(ROLE_SKELETON, USE_LITERT))


def _parse(reader: Reader) -> tuple[int, list[Hole]]:
    """The size of the file and its holes; leaves the reader at the zlib stream."""
    if (form := reader.u8()) != FORM:
        raise PackError(f"the skeleton has form {form}, but this version reads form {FORM}")
    end, count = reader.u32(), reader.varint()
    if count > reader.left:
        raise PackError("the skeleton lists more holes than it has bytes for")
    return end, [_hole(reader) for _ in range(count)]


def _hole(reader: Reader) -> Hole:
    offset, number, dtype = reader.varint(), reader.varint(), reader.u8()
    if dtype >= len(DTYPES):
        raise PackError(f"weights {number} of the skeleton have the unknown dtype {dtype}")
    return Hole(offset, number, DTYPES[dtype])


def _grown(weights: Weights, hole: Hole) -> Iterator[bytes]:
    as_levels = hole.dtype.itemsize == 1
    if as_levels and weights.dtype != INT8:
        raise PackError(f"weights {hole.number} are floats where the skeleton needs levels")
    for start in range(0, weights.count, PIECE // 4):
        count = min(PIECE // 4, weights.count - start)
        if as_levels:
            levels = np.empty(count, np.int8)
            weights.read_levels(levels)
            yield (levels if hole.dtype == DTYPES[INT8] else levels.view(np.uint8) ^ 0x80).tobytes()
        else:
            floats = np.empty(count, np.float32)
            weights.read_floats(floats)
            yield floats.astype(hole.dtype, copy=False).tobytes()


class _Gaps:
    """What lies between the holes, from the zlib stream."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._stream = zlib.decompressobj()
        self._packed = b""

    def pieces(self, count: int) -> Iterator[bytes]:
        """The next `count` bytes."""
        while count:
            piece = self._next(min(count, PIECE))
            count -= len(piece)
            yield piece

    def finish(self) -> None:
        """Raise PackError unless the stream ends here."""
        while not self._stream.eof:
            if self._inflate(1):
                raise PackError("the skeleton holds more bytes than its file")
        if self._stream.unused_data or self._reader.left:
            raise PackError("bytes follow the skeleton's zlib stream")

    def _next(self, most: int) -> bytes:
        while not self._stream.eof:
            if piece := self._inflate(most):
                return piece
        raise PackError("the skeleton holds fewer bytes than its file")

    def _inflate(self, most: int) -> bytes:
        """Up to `most` bytes; none if the stream needs more input, of which it takes some."""
        if not self._packed:
            self._packed = self._reader.read(min(PIECE, self._reader.left))
            if not self._packed:
                raise PackError("the skeleton's zlib stream is cut short")
        try:
            piece = self._stream.decompress(self._packed, most)
        except zlib.error as error:
            raise PackError(f"the skeleton's zlib stream is damaged: {error}") from None
        self._packed = self._stream.unconsumed_tail
        return piece
