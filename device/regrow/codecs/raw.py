"""Codec raw: the weights as they are, int8 levels, float16 or float32."""

from typing import Any

import numpy as np
import numpy.typing as npt

from regrow import codecs
from regrow.codecs import Floats, Header, Levels
from regrow.errors import PackError
from regrow.reader import Reader

_DTYPES = (np.dtype("i1"), np.dtype("<f4"), np.dtype("<f2"))


class Decoder(codecs.Decoder):
    def __init__(self, reader: Reader, header: Header) -> None:
        super().__init__(reader, header)
        if (header.dtype == codecs.INT8) != (header.scales.size > 0):
            raise PackError("raw levels need scales, and raw floats have none")
        self._dtype = _DTYPES[header.dtype]
        self._start = reader.position
        if reader.left != header.count * self._dtype.itemsize:
            raise PackError(f"{reader.left} bytes are not {header.count} raw weights")

    def levels(self, index: int, n: int) -> Levels:
        if self.header.dtype != codecs.INT8:
            raise PackError("these weights are floats, and levels are wanted")
        return self._values(index, n)

    def floats(self, index: int, n: int) -> Floats:
        if self.header.dtype == codecs.INT8:
            return super().floats(index, n)
        with np.errstate(invalid="ignore"):
            return self._values(index, n).astype(np.float32)

    def _values(self, index: int, n: int) -> npt.NDArray[Any]:
        self._reader.seek(self._start + index * self._dtype.itemsize)
        return np.frombuffer(self._reader.read(n * self._dtype.itemsize), self._dtype)
