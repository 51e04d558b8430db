"""Codec grid: levels coded by interleaved range ANS (Duda 2013, arXiv:1311.2540), tables from the part."""

from itertools import cycle, islice

import numpy as np
import numpy.typing as npt

from regrow import codecs
from regrow.codecs import Header, Levels
from regrow.errors import PackError
from regrow.reader import Reader

LOW = 1 << 14
"""A lane's state is at least this before and after every weight."""

_FEW_LANES = 24
"""Below this, plain integers are faster than numpy calls on arrays of a lane each."""

_Numbers = npt.NDArray[np.intp]


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
        frequencies = [reader.varint() for _ in range(symbols)]
        if sum(frequencies) != 1 << self._precision:
            raise PackError("the frequencies of grid weights do not add up")
        self._frequencies = np.array(frequencies, np.intp)
        self._below = np.cumsum(self._frequencies) - self._frequencies
        self._symbols = np.repeat(np.arange(symbols, dtype=np.uint8), self._frequencies)
        self._values = np.arange(lowest, lowest + symbols).astype(np.int8)
        self._start = reader.position
        self.rewind()

    def rewind(self) -> None:
        self._reader.seek(self._start)
        states = np.frombuffer(self._reader.read(4 * self._lanes), "<u4")
        if (states < LOW).any() or (states >= LOW << 16).any():
            raise PackError("a lane of grid weights starts out of range")
        if self._reader.left % 2:
            raise PackError("grid weights end within a word")
        self._states = states.astype(np.intp)
        self._words = np.empty(0, np.uint16)
        self._ahead = np.empty(0, np.int8)

    def levels(self, index: int, n: int) -> Levels:
        """Whole rounds over the lanes are decoded; what was not asked for yet waits in `_ahead`."""
        start = index + self._ahead.size
        rounds = -(-max(0, index + n - start) // self._lanes)
        more = min(rounds * self._lanes, self.header.count - start)
        levels = np.concatenate([self._ahead, self._decode(more)])
        self._ahead = levels[n:].copy()
        if start + more == self.header.count:
            self._check_end()
        return levels[:n]

    def _check_end(self) -> None:
        if (self._states != LOW).any() or self._words.size or self._reader.left:
            raise PackError("grid weights do not end where their code ends")

    def _decode(self, n: int) -> Levels:
        """The next n levels, the first from lane 0. They need n words at most."""
        missing = min(max(0, n - self._words.size), self._reader.left // 2)
        more = np.frombuffer(self._reader.read(2 * missing), "<u2")
        self._words = np.concatenate([self._words, more])
        rounds = 0 if self._lanes < _FEW_LANES else n // self._lanes
        symbols = [self._decode_rounds(rounds), self._decode_singly(n - rounds * self._lanes)]
        return self._values[np.concatenate(symbols)]

    def _decode_rounds(self, rounds: int) -> npt.NDArray[np.uint8]:
        """The symbols of whole rounds, all lanes at once."""
        lanes, states = self._lanes, self._states
        frequencies = self._frequencies[self._symbols]
        biases = np.arange(self._symbols.size) - self._below[self._symbols]
        # Constants of full length: numpy takes a scalar's conversion anew in every call.
        constants = [(1 << self._precision) - 1, self._precision, LOW, 16]
        mask, precision, low, word_bits = np.repeat(np.array(constants)[:, None], lanes, axis=1)
        words, used = self._words.astype(np.intp), 0
        slots = np.empty((rounds, lanes), np.intp)
        for slot in slots:
            np.bitwise_and(states, mask, slot)
            states >>= precision
            states *= frequencies[slot]
            states += biases[slot]
            thirsty = (states < low).nonzero()[0]
            first, used = used, used + thirsty.size
            if used > words.size:
                raise PackError("grid weights are cut short")
            states[thirsty] = (states[thirsty] << word_bits[: thirsty.size]) + words[first:used]
        self._words = self._words[used:].copy()
        return self._symbols[slots.ravel()]

    def _decode_singly(self, n: int) -> npt.NDArray[np.uint8]:
        """The next n symbols, one after the other, the first from lane 0."""
        symbol_of = self._symbols.tobytes()
        frequencies, below, states = self._frequencies.tolist(), self._below.tolist(), self._states.tolist()
        precision = self._precision
        mask = (1 << precision) - 1
        words, used = self._words[:n].tolist(), 0
        symbols = bytearray()
        for lane in islice(cycle(range(self._lanes)), n):
            state = states[lane]
            slot = state & mask
            symbol = symbol_of[slot]
            symbols.append(symbol)
            state = frequencies[symbol] * (state >> precision) + slot - below[symbol]
            if state < LOW:
                if used == len(words):
                    raise PackError("grid weights are cut short")
                state = state << 16 | words[used]
                used += 1
            states[lane] = state
        self._states[:] = states
        self._words = self._words[used:].copy()
        return np.frombuffer(symbols, np.uint8)
