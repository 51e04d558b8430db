"""Codec central: weights grown around a mean with a standard deviation (weight centralization)."""

import numpy as np
import numpy.typing as npt

from regrow import codecs
from regrow.codecs import Floats, Header, Levels
from regrow.errors import PackError
from regrow.generator import grow
from regrow.reader import Reader

UNITARY, LAYER, BATCH = 0, 1, 2
UNIFORM, MEAN = 0, 1


class Decoder(codecs.Decoder):
    def __init__(self, reader: Reader, header: Header) -> None:
        super().__init__(reader, header)
        if header.dtype != codecs.INT8 or header.scales.size:
            raise PackError("central weights have dtype 0 and no scales")
        unit, self._restoration = reader.u8(), reader.u8()
        self._exponent, self._shift = reader.i8(), reader.u8()
        self._bias, self._seed, self._batch = reader.i16(), reader.u32(), reader.u32()
        if unit > BATCH or self._restoration > MEAN:
            raise PackError("unit or restoration of central weights is unknown")
        if not (-120 <= self._exponent <= 80 and 1 <= self._shift <= 24):
            raise PackError("exponent or shift of central weights is out of range")
        if not 1 <= self._batch <= header.count or (unit != BATCH and self._batch != header.count):
            raise PackError(f"batch size {self._batch} does not fit {header.count} weights")
        self._record = 2 if self._restoration == MEAN else 4
        self._start = reader.position
        if reader.left != -(-header.count // self._batch) * self._record:
            raise PackError("central weights have too many or too few statistics")
        self.scales = np.ldexp(np.ones(1, np.float32), self._exponent + self._shift)

    def levels(self, index: int, n: int) -> Levels:
        k = self._grow(index, n)
        k += 1 << (self._shift - 1)
        k >>= self._shift
        return np.clip(k, -127, 127).astype(np.int8)

    def floats(self, index: int, n: int) -> Floats:
        return np.ldexp(self._grow(index, n).astype(np.float32), self._exponent)

    def _grow(self, index: int, n: int) -> npt.NDArray[np.int32]:
        """The weights in units of 2^exponent, within +-2^24."""
        first, last = index // self._batch, (index + n - 1) // self._batch
        self._reader.seek(self._start + first * self._record)
        statistics = np.frombuffer(self._reader.read((last - first + 1) * self._record), "<i2").astype(
            np.int32
        )
        mean = statistics[:: self._record // 2] + self._bias
        if (abs(mean * 2 + 1) > 65535).any():
            raise PackError("mean plus bias of central weights does not fit 16 bits")
        i = np.arange(index, index + n)
        batch = i // self._batch - first
        k = (mean << 8)[batch]
        if self._restoration == UNIFORM:
            std = statistics[1::2]
            if (std < 0).any():
                raise PackError("a standard deviation of central weights is over 32,767")
            noise = grow(self._seed, i).astype(np.int32)
            noise -= 32768
            noise *= std[batch]
            noise >>= 7
            k += noise
        return k
