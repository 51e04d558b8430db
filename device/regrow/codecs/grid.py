"""Codec grid: levels coded by range ANS (Duda 2013, arXiv:1311.2540) with the model of `gridmodel`."""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from regrow import codecs
from regrow.codecs import Header, Levels
from regrow.codecs.gridmodel import LARGEST_SIZE, PRECISION, TOTAL, Model, Numbers
from regrow.errors import PackError
from regrow.reader import Reader

CONSTANT, CODED = 0, 1
LOW = 1 << 14
"""A stripe's state is at least this before and after every weight."""

_GROUP = 1 << 19
"""Weights of the stripes that are decoded together, unless a stripe alone has more."""

_FEW_STRIPES = 10
"""Below this, plain integers are faster than numpy calls on arrays of a stripe each."""


class Decoder(codecs.Decoder):
    def __init__(self, reader: Reader, header: Header) -> None:
        super().__init__(reader, header)
        if header.dtype != codecs.INT8 or not header.scales.size:
            raise PackError("grid weights have dtype 0 and scales")
        form = reader.u8()
        if form > CODED:
            raise PackError(f"model form {form} of grid weights is unknown")
        self._constant = reader.i8() if form == CONSTANT else None
        if form == CONSTANT:
            if reader.left:
                raise PackError("constant grid weights do not end where they should")
            return
        self._model = Model.parse(reader)
        self._rows = _Rows(self._model)
        stripes = -(-header.count // self._model.stripe)
        if stripes > 1 + reader.left // 5:
            raise PackError("grid weights are cut short")
        self._words = np.array([reader.varint() for _ in range(stripes - 1)], np.int64)
        rest = reader.left - 4 * stripes - 2 * int(self._words.sum())
        if rest < 0 or rest % 2:
            raise PackError("the stripes of grid weights do not end where their code ends")
        self._words = np.append(self._words, rest // 2)
        if (self._words > self._model.stripe).any():
            raise PackError("a stripe of grid weights has more words than weights")
        self._start = reader.position
        self.rewind()

    def rewind(self) -> None:
        if self._constant is not None:
            return
        self._reader.seek(self._start)
        self._stripe = 0
        self._ahead = np.empty(0, np.int8)
        self._past = _Past(self._model)

    def levels(self, index: int, n: int) -> Levels:
        """Whole groups of stripes are decoded; what was not asked for yet waits in `_ahead`."""
        if self._constant is not None:
            return np.full(n, self._constant, np.int8)
        pieces, ahead = [self._ahead], self._ahead.size
        while ahead < n:
            pieces.append(self._decode())
            ahead += pieces[-1].size
        levels = np.concatenate(pieces)
        self._ahead = levels[n:].copy()
        return levels[:n]

    def _decode(self) -> Levels:
        """The levels of the next group of stripes."""
        first, stripe = self._stripe, self._model.stripe
        stripes = min(max(1, _GROUP // stripe), self._words.size - first)
        words = self._words[first : first + stripes]
        code = self._read(words)
        ends = code.places + words
        count = min(stripes * stripe, self.header.count - first * stripe)
        past = self._past.extended(self._model, first, stripes * stripe)
        decode = _decode_singly if stripes < _FEW_STRIPES else _decode_together
        decode(self._model, self._rows, past, code, count)
        if (code.states != LOW).any() or (code.places != ends).any():
            raise PackError("a stripe of grid weights does not end where its code ends")
        self._stripe += stripes
        self._past = past.extended(self._model, self._stripe, 0)
        return (past.values[past.start : past.start + count] + self._model.centre).astype(np.int8)

    def _read(self, counts: Numbers) -> "_Code":
        states, words = [], []
        for count in counts.tolist():
            states.append(self._reader.u32())
            words.append(self._reader.read(2 * count))
        if not all(LOW <= state < LOW << 16 for state in states):
            raise PackError("a stripe of grid weights starts out of range")
        words.append(bytes(2 * self._model.stripe))  # what a broken code may read beyond its end
        code = np.frombuffer(b"".join(words), "<u2")
        return _Code(np.array(states, np.int64), code, np.cumsum(counts) - counts)


class _Rows:
    """Per row (class * PHASES + phase + 2) the code of its residuals, made when it is first needed."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.classes = model.classes() if model.contexts else np.empty(0, np.int64)
        self._lists: dict[int, list[int]] = {}
        self._tables: _Tables | None = None

    def below(self, row: int) -> list[int]:
        """As Model.below."""
        if row not in self._lists:
            self._lists[row] = self._model.below(row).tolist()
        return self._lists[row]

    def tables(self) -> "_Tables":
        """The same of all rows, for many residuals at once."""
        if self._tables is None:
            model = self._model
            below = np.array([model.below(row) for row in range(model.rows)])
            frequencies = np.diff(below, axis=1).ravel()
            symbols = np.repeat(np.arange(frequencies.size, dtype=np.int16), frequencies)
            residuals = np.tile(np.arange(-model.reach, model.reach + 1), model.rows)
            self._tables = _Tables(symbols, frequencies, below[:, :-1].ravel(), residuals)
        return self._tables


@dataclass(frozen=True)
class _Tables:
    """The symbol of row * TOTAL + slot; of a symbol its frequency, those below it, and its residual."""

    symbols: npt.NDArray[np.int16]
    frequencies: Numbers
    below: Numbers
    residuals: Numbers


class _Past:
    """What the model looks back at: flat arrays in which weight 0 of the group stands at `start`.

    `values` are levels less the centre, `sizes` per context its average after each weight.
    """

    def __init__(self, model: Model, stripe: int = 0, count: int = 0) -> None:
        self.start = model.farthest
        self.stripe = stripe
        self.values = np.zeros(self.start + count, np.int16)
        self.sizes = [np.zeros(self.start + count, np.uint16) for _ in model.contexts]

    def extended(self, model: Model, stripe: int, count: int) -> "_Past":
        """The same past, for the group that begins with `stripe` and has `count` weights at most."""
        group = _Past(model, stripe, count)
        for old, new in zip((self.values, *self.sizes), (group.values, *group.sizes), strict=True):
            new[: self.start] = old[old.size - self.start :]
        return group


class _Code:
    """The states of a group's stripes, their words, and per stripe the place of its next word."""

    def __init__(self, states: Numbers, words: npt.NDArray[np.uint16], places: Numbers) -> None:
        self.states = states
        self.words = words
        self.places = places

    def symbols(self, begin: int, end: int, rows: Numbers, tables: _Tables) -> npt.NDArray[np.int16]:
        """The next symbol of each of the stripes begin .. end - 1, in its row."""
        states = self.states[begin:end]
        slots = states & (TOTAL - 1)
        symbols = tables.symbols[(rows << PRECISION) + slots]
        states >>= PRECISION
        states *= tables.frequencies[symbols]
        states += slots
        states -= tables.below[symbols]
        thirsty = (states < LOW).nonzero()[0]
        if thirsty.size:
            places = self.places[begin:end]
            at = places[thirsty]
            states[thirsty] = states[thirsty] << 16 | self.words[at]
            places[thirsty] = at + 1
        return symbols


def _decode_singly(model: Model, rows: _Rows, past: _Past, code: _Code, count: int) -> None:
    """The group's weights, one after the other."""
    values, sizes = past.values.tolist(), [each.tolist() for each in past.sizes]
    classes, words = rows.classes.tolist(), code.words.tolist()
    near = [(*divmod(each.distance, model.stripe), each.distance, each.weight) for each in model.neighbours]
    far = [
        (*divmod(each.distance, model.stripe), each.distance, each.weight, each.shift, averages)
        for each, averages in zip(model.contexts, sizes, strict=True)
    ]
    lift, first, rest, mask = model.centre + 128, model.first_size, model.rest, TOTAL - 1
    for j, begin in enumerate(range(0, count, model.stripe)):
        state, place, stripe = int(code.states[j]), int(code.places[j]), past.stripe + j
        for column in range(min(model.stripe, count - begin)):
            i = past.start + begin + column
            expected = 8
            for over, across, distance, weight in near:
                if column >= across and stripe >= over:
                    expected += weight * values[i - distance]
            expected >>= 4
            nearest = (expected + 2) >> 2
            row = expected - 4 * nearest + 2
            if far:
                total, before = rest, []
                for over, across, distance, weight, _, averages in far:
                    average = averages[i - distance] if column >= across and stripe >= over else first
                    before.append(average)
                    total += weight * average
                row += classes[total >> 4]
            below = rows.below(row)
            slot = state & mask
            symbol = bisect_right(below, slot) - 1
            state = (below[symbol + 1] - below[symbol]) * (state >> PRECISION) + slot - below[symbol]
            if state < LOW:
                state = state << 16 | words[place]
                place += 1
            values[i] = value = (nearest + symbol - model.reach + lift & 255) - lift
            if far:
                size = min(abs(4 * value - expected), LARGEST_SIZE) << 6
                for average, (_, _, _, _, shift, averages) in zip(before, far, strict=True):
                    averages[i] = average + ((size - average) >> shift)
        code.states[j], code.places[j] = state, place
    for array, numbers in zip((past.values, *past.sizes), (values, *sizes), strict=True):
        array[:] = numbers


def _decode_together(model: Model, rows: _Rows, past: _Past, code: _Code, count: int) -> None:
    """The group's weights in lock-step, each stripe one weight behind the one before: what it needs is there.

    So the weights of a step stand stripe - 1 apart, which makes each array of them a slice.
    """
    stripe, stripes = model.stripe, code.states.size
    apart = stripe - 1
    tables, lift = rows.tables(), model.centre + 128
    near = [(_Look(each.distance, model, past, past.values), each.weight) for each in model.neighbours]
    far = [
        (_Look(each.distance, model, past, sizes), each.weight, each.shift, sizes)
        for each, sizes in zip(model.contexts, past.sizes, strict=True)
    ]
    last = count - (stripes - 1) * apart  # the step at which the last stripe, which may be short, has ended
    for step in range(max(last, apart + stripes - 1)):
        begin, end = max(0, step - apart), min(step + 1, stripes - (step >= last))
        now = past.start + step + begin * apart
        here = slice(now, now + (end - begin - 1) * apart + 1, apart)
        expected = np.full(end - begin, 8)
        for look, weight in near:
            there, values = look.back(step, begin, end)
            expected[there] += values * weight
        expected >>= 4
        level = (expected + 2) >> 2
        row = expected - (level << 2) + 2
        before = []
        if far:
            total = np.full(end - begin, model.rest)
            for look, weight, _, _ in far:
                average = np.full(end - begin, model.first_size)
                there, values = look.back(step, begin, end)
                average[there] = values
                before.append(average)
                total += average * weight
            row += rows.classes[total >> 4]
        level += tables.residuals[code.symbols(begin, end, row, tables)]
        level += lift
        level &= 255
        level -= lift
        past.values[here] = level
        if far:
            size = np.minimum(np.abs((level << 2) - expected), LARGEST_SIZE) << 6
            for average, (_, _, shift, sizes) in zip(before, far, strict=True):
                sizes[here] = average + ((size - average) >> shift)


class _Look:
    """Back by a distance, from the weights of a step to what stands there already."""

    def __init__(self, distance: int, model: Model, past: _Past, values: npt.NDArray[Any]) -> None:
        over, self._across = divmod(distance, model.stripe)
        self._over = over - past.stripe
        self._start = past.start - distance
        self._apart = model.stripe - 1
        self._values = values

    def back(self, step: int, begin: int, end: int) -> tuple[slice, npt.NDArray[Any]]:
        """Which of the stripes begin .. end - 1 have something there, counted from begin; what they have."""
        first, stop = max(begin, self._over), min(end, step - self._across + 1)
        if first >= stop:
            return slice(0, 0), self._values[:0]
        at = self._start + step + first * self._apart
        values = self._values[at : at + (stop - first - 1) * self._apart + 1 : self._apart]
        return slice(first - begin, stop - begin), values
