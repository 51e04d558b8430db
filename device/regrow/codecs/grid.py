"""Codec grid: levels coded by interleaved range ANS (Duda 2013, arXiv:1311.2540), tables from the part."""

import numpy as np
import numpy.typing as npt

from regrow import codecs
from regrow.codecs import Header, Levels
from regrow.errors import PackError
from regrow.reader import Reader

LOW = 1 << 14
"""A lane's state is at least this before and after every weight."""

_SCALAR_LANES = 24
"""With fewer lanes plain integers are faster than numpy calls on short arrays."""


class Decoder(codecs.Decoder):
    def __init__(self, reader: Reader, header: Header) -> None:
        super().__init__(reader, header)
        if header.dtype != codecs.INT8 or not header.scales.size:
            raise PackError("grid weights have dtype 0 and scales")
        form, self._precision, self._lanes = reader.u8(), reader.u8(), reader.u8()
        lowest, symbols = reader.i8(), reader.u8() + 1
        if form or not 8 <= self._precision <= 12 or not 1 <= self._lanes <= min(255, header.count):
            raise PackError("model form, precision or lanes of grid weights are out of range")
        if lowest + symbols - 1 > 127:
            raise PackError("the highest level of grid weights is over 127")
        frequencies = np.array([reader.varint() for _ in range(symbols)])
        if frequencies.sum() != 1 << self._precision:
            raise PackError("the frequencies of grid weights do not add up")
        self._tables(lowest, frequencies)
        self._start = reader.position
        self.rewind()

    def _tables(self, lowest: int, frequencies: npt.NDArray[np.int64]) -> None:
        """Per slot: the level, its frequency, and the slot's distance from the level's first."""
        below = np.cumsum(frequencies) - frequencies
        symbol = np.repeat(np.arange(frequencies.size), frequencies)
        self._level = (lowest + symbol).astype(np.int8)
        self._frequency = frequencies[symbol].astype(np.int32)
        self._bias = (np.arange(symbol.size) - below[symbol]).astype(np.int32)

    def rewind(self) -> None:
        self._reader.seek(self._start)
        self._states = np.frombuffer(self._reader.read(4 * self._lanes), "<u4").astype(np.int64)
        if (self._states < LOW).any() or (self._states >= LOW << 16).any():
            raise PackError("a lane of grid weights starts out of range")
        if self._reader.left % 2:
            raise PackError("grid weights end within a word")
        self._states = self._states.astype(np.int32)
        self._words = np.empty(0, np.int32)
        self._ahead = np.empty(0, np.int8)

    def levels(self, index: int, n: int) -> Levels:
        """Whole rounds over the lanes are decoded; what was not asked for yet waits in `_ahead`."""
        ahead = self._ahead
        decoded = index + ahead.size
        wanted = -(-max(0, n - ahead.size) // self._lanes) * self._lanes
        wanted = min(wanted, self.header.count - decoded)
        if wanted:
            ahead = np.concatenate([ahead, self._level[self._slots(wanted)]])
            if decoded + wanted == self.header.count:
                self._check_end()
        self._ahead = ahead[n:]
        return ahead[:n]

    def _check_end(self) -> None:
        if (self._states != LOW).any() or self._words.size or self._reader.left:
            raise PackError("grid weights do not end where their code ends")

    def _slots(self, n: int) -> npt.NDArray[np.int32]:
        """Advance the lanes by n weights, beginning with lane 0, and give their slots."""
        missing = min(max(0, n - self._words.size), self._reader.left // 2)
        more = np.frombuffer(self._reader.read(2 * missing), "<u2").astype(np.int32)
        self._words = np.concatenate([self._words, more])
        try:
            slots, used = (self._step_scalar if self._lanes < _SCALAR_LANES else self._step_vector)(n)
        except (IndexError, ValueError):
            raise PackError("grid weights are cut short") from None
        self._words = self._words[used:]
        return slots

    def _step_scalar(self, n: int) -> tuple[npt.NDArray[np.int32], int]:
        states, words, used = self._states.tolist(), self._words.tolist(), 0
        frequency, bias = self._frequency.tolist(), self._bias.tolist()
        precision, lanes = self._precision, self._lanes
        mask = (1 << precision) - 1
        slots = []
        for i in range(n):
            state = states[i % lanes]
            slot = state & mask
            slots.append(slot)
            state = frequency[slot] * (state >> precision) + bias[slot]
            if state < LOW:
                state = state << 16 | words[used]
                used += 1
            states[i % lanes] = state
        self._states = np.array(states, np.int32)
        return np.array(slots, np.int32), used

    def _step_vector(self, n: int) -> tuple[npt.NDArray[np.int32], int]:
        words, used = self._words, 0
        slots = np.empty(n, np.int32)
        mask = (1 << self._precision) - 1
        for start in range(0, n, self._lanes):
            slot = slots[start : start + self._lanes]
            states = self._states[: slot.size]
            np.bitwise_and(states, mask, out=slot)
            states >>= self._precision
            states *= self._frequency.take(slot)
            states += self._bias.take(slot)
            low = (states < LOW).nonzero()[0]
            end = used + low.size
            states[low] = states[low] << 16 | words[used:end]
            used = end
        return slots, used
