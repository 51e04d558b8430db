"""Weights parts: grow a tensor's weights in order, tile by tile."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from regrow import codecs
from regrow.codecs import Floats, Header, central, grid, raw
from regrow.errors import PackError
from regrow.reader import Reader

TILE = 16384
"""Weights grown at a time, whatever the buffer they go to."""
TOGETHER = 1 << 19
"""Weights of tensors that are decoded together at most, unless one alone has more."""

_DECODERS = (raw.Decoder, central.Decoder, grid.Decoder)

_Scalar = TypeVar("_Scalar", bound=np.generic)


class Weights:
    """The weights of one part; weight i belongs to channel (i // inner) % channels.

    `dtype` is what the part holds: codecs.INT8 levels, FLOAT32 or FLOAT16. Raises PackError for bad bytes,
    when it is made or while weights are read.
    """

    def __init__(self, reader: Reader) -> None:
        header = Header.parse(reader)
        self.count = header.count
        self.channels = header.channels
        self.inner = header.inner
        self.dtype = header.dtype
        self.codec_name = codecs.NAMES[header.codec]
        self._decoder = _DECODERS[header.codec](reader, header)
        self._index = 0

    @property
    def scales(self) -> Floats:
        """float32 of shape (channels,), read-only; of shape (0,) if the part holds floats."""
        scales = self._decoder.scales
        return np.broadcast_to(scales, (self.channels,)) if scales.size else scales

    def read_levels(self, out: npt.NDArray[np.int8] | memoryview | bytearray) -> None:
        """Fill `out` (contiguous, int8 or bytes) with the next levels."""
        for index, tile in self._tiles(np.frombuffer(out, np.int8)):
            tile[:] = self._decoder.levels(index, tile.size)

    def read_floats(self, out: Floats | memoryview) -> None:
        """Fill `out` (contiguous, float32) with the next real weights."""
        for index, tile in self._tiles(np.frombuffer(out, np.float32)):
            tile[:] = self._decoder.floats(index, tile.size)

    def rewind(self) -> None:
        """Go back to weight 0."""
        self._decoder.rewind()
        self._index = 0

    @staticmethod
    def side_by_side(tensors: "Iterable[Weights]") -> "Iterator[Weights]":
        """The tensors in order, small ones decoded together, which is faster: their levels wait to be read.

        Raises PackError for bad bytes.
        """
        batch: list[Weights] = []
        for each in tensors:
            if sum(one.count for one in batch) + each.count > TOGETHER:
                yield from _decoded(batch)
                batch = []
            batch.append(each)
        yield from _decoded(batch)

    def _tiles(self, out: npt.NDArray[_Scalar]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        if out.size > self.count - self._index:
            raise PackError(f"{out.size} weights are wanted where {self.count - self._index} are left")
        for start in range(0, out.size, TILE):
            tile = out[start : start + TILE]
            yield self._index, tile
            self._index += tile.size


def _decoded(batch: list[Weights]) -> list[Weights]:
    decoders = [each._decoder for each in batch]
    grid.decode_ahead([each for each in decoders if isinstance(each, grid.Decoder)])
    return batch
