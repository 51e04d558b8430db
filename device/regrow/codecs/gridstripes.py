"""Decoding stripes of codec grid: side by side, of several tensors at once.

numpy takes a step of many stripes nearly as fast as a step of few, so all stripes go in lock-step, a weight
each; the few that are left once the others have ended are decoded by plain integers, one after the other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from regrow.codecs.gridmodel import (
    CLASSES,
    HALF_OCTAVES,
    PHASES,
    PRECISION,
    TOTAL,
    Model,
    Numbers,
    half_octaves,
)
from regrow.errors import PackError

LOW = 1 << 14
"""A stripe's state is at least this before and after every weight, as long as it has words."""

_NEAR = 3
"""The most neighbours of a model; where lanes look has a row for each of them, then one for the context."""

_STEP = 120
"""What a step takes in numpy, in units of what plain integers take for a weight that nothing predicts."""

_PLAIN = 2
"""Phase + 2 of a level that nothing predicts."""

_PHASES = PHASES - 1 << PRECISION

_16, _LOW, _MASK, _PRECISION = map(np.array, (16, LOW, TOTAL - 1, PRECISION))
_4, _6, _40, _255, _UP_TO_PHASE, _PHASE = (
    np.array(each, np.int32) for each in (4, 6, 40, 255, PRECISION - 4, _PHASES)
)
"""Arrays, because numpy takes a third longer for plain integers. What is coded has 64 bits and what predicts
it 32, because numpy is slow where they meet."""

Cells = npt.NDArray[np.int32]


class Tables:
    """The code of a model's residuals, made when it is first needed.

    Symbols count the residuals of a row, and on through all rows; a row is class * phases + phase, and models
    without neighbours have one phase only, those without a context one class.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.phases = np.arange(PHASES) if model.neighbours else np.array([_PLAIN])
        self.classes = np.arange(CLASSES) if model.context else np.array([CLASSES // 2])

    @cached_property
    def below(self) -> Numbers:
        """Per row the slots below each symbol, and all slots."""
        return self.model.below((self.classes[:, None] * PHASES + self.phases).ravel())

    @cached_property
    def symbols(self) -> npt.NDArray[np.int16]:
        """The symbol of row * TOTAL + slot."""
        sizes = np.diff(self.below, axis=1).ravel()
        return np.repeat(np.arange(sizes.size, dtype=np.int16), sizes)

    @cached_property
    def residuals(self) -> Cells:
        """Of each symbol."""
        reach = self.model.reach
        return np.tile(np.arange(-reach, reach + 1, dtype=np.int32), len(self.below))

    @cached_property
    def moves(self) -> Cells:
        """How far off its level is from where it was expected, in 1/256, of each symbol."""
        phases = np.tile(self.phases - _PLAIN, len(self.classes)).astype(np.int32)
        return np.abs(4 * self.residuals - np.repeat(phases, 2 * self.model.reach + 1)) << 6

    @cached_property
    def lists(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """Of each symbol its size in slots, the slots below it, its residual and its move."""
        sizes, below = np.diff(self.below, axis=1).ravel(), self.below[:, :-1].ravel()
        return sizes.tolist(), below.tolist(), self.residuals.tolist(), self.moves.tolist()

    def starts(self) -> Numbers:
        """Where in `symbols` phase 0 begins, or would, for each count of half octaves of the size."""
        model = self.model
        classes = model.classes() if model.context else np.zeros(HALF_OCTAVES, np.int64)
        return (classes * self.phases.size - (0 if model.neighbours else _PLAIN)) * TOTAL


@dataclass(frozen=True)
class Group:
    """Stripes of one tensor, from number `first` on, with `count` weights.

    `past` (1 or 2, farthest): levels less the centre, and the context's averages, of the weights before
    them. Per stripe its state, and its words as bytes.
    """

    model: Model
    tables: Tables
    first: int
    count: int
    past: Cells
    states: list[int]
    words: list[bytes]

    @property
    def planes(self) -> int:
        return len(self.past)

    @property
    def width(self) -> int:
        return self.model.farthest + self.count


class Stripes:
    """The stripes of several groups, each a lane.

    `_cells` holds per group the planes of `Group.past`, each followed by the weights of the group; before
    them stand zeros and per group its first sizes, as many as a lane has steps: there look those that have
    nothing in sight yet.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = groups
        longest = max(min(each.model.stripe, each.count) for each in groups)
        bases, end = [], (1 + len(groups)) * longest
        for each in groups:
            bases.append(end)
            end += each.planes * each.width
        self._bases = bases
        self._cells = np.zeros(end, np.int32)
        for number, group in enumerate(groups):
            self._cells[(1 + number) * longest :][:longest] = group.model.first_size
            self.cells_of(number)[:, : group.model.farthest] = group.past
        # Lanes look at the word they would take, also behind their last.
        code = b"".join([*(words for each in groups for words in each.words), bytes(2)])
        self._words = np.frombuffer(code, "<u2").astype(np.int64)
        self._lanes = _Lanes(groups, bases, longest)

    def cells_of(self, number: int) -> Cells:
        """(1 or 2, farthest + weights): a group's levels less the centre, its context's averages."""
        group, base = self._groups[number], self._bases[number]
        return self._cells[base : base + group.planes * group.width].reshape(group.planes, group.width)

    def decode(self) -> None:
        """Raises PackError unless every stripe ends where its code ends."""
        lanes = self._lanes
        code: _Code | None = None
        for step, stop in lanes.spans():
            left = (lanes.stops > step).nonzero()[0]
            if lanes.prices[left].sum() < _STEP:
                for lane in left.tolist():
                    self._singly(lane, max(0, step - int(lanes.delays[lane])))
                break
            code = code or _Code(self._groups)
            self._together(code, step, stop)
        if lanes.states.any() or (lanes.places != lanes.ends).any():
            raise PackError("a stripe of grid weights does not end where its code ends")

    def _together(self, code: "_Code", step: int, stop: int) -> None:
        """Steps from `step` to `stop`, between which no lane starts, ends or gets something in sight."""
        lanes, cells, words = self._lanes, self._cells, self._words
        active = ((lanes.delays <= step) & (step < lanes.stops)).nonzero()[0]
        group = lanes.groups[active]
        near, far = int(code.near[group].max()), bool(code.far[group].any())
        column = step - lanes.delays[active]
        here = lanes.origins[active] + column
        used = [*range(near), *[_NEAR] * far]
        seen = (column >= lanes.across[used][:, active]) & lanes.reached[used][:, active]
        look = np.where(seen, here + lanes.offsets[used][:, active], lanes.blanks[used][:, active])
        # Levels come last: where a group has no context they overwrite what others need.
        puts = np.array([here + code.planes[group], here])[-1 - far :]
        weights, shifts, rest = code.weights[used][:, group], code.shifts[group], code.rest[group]
        states, places, ends = lanes.states[active], lanes.places[active], lanes.ends[active]
        first_symbols, lifts = code.first_symbols[group], code.lifts[group]
        octaves = HALF_OCTAVES * group
        found, products = np.empty((2, len(used), active.size), np.int32)
        made = np.empty((1 + far, active.size), np.int32)
        averages, levels = made[0], made[-1]
        to_expect = list(products[:near])
        expected, nearest, phases, sizes = np.empty((4, active.size), np.int32)
        nearest[:], phases[:] = 0, _PLAIN << PRECISION
        starts = code.starts[octaves]
        for passed in range(stop - step):
            now = cells[passed:]
            now.take(look, None, found, "clip")
            np.multiply(found, weights, products)
            if near:
                _sum(_40, to_expect, expected)
                np.right_shift(expected, _6, nearest)
                np.left_shift(expected, _UP_TO_PHASE, phases)
                np.bitwise_and(phases, _PHASE, phases)
            if far:
                np.add(rest, products[-1], sizes)
                starts = code.starts_of(sizes, octaves)
            symbols = code.draw(np.add(starts, phases, dtype=np.int64), first_symbols, states)
            thirsty = (states < _LOW) & (places < ends)
            np.copyto(states, states << _16 | words[places], where=thirsty)
            np.add(places, thirsty, places)
            code.residuals.take(symbols, None, levels, "clip")
            np.add(levels, nearest, levels)
            np.bitwise_and(levels, _255, levels)
            np.subtract(levels, lifts, levels)
            if far:
                code.moves.take(symbols, None, sizes, "clip")
                np.subtract(sizes, found[-1], averages)
                np.right_shift(averages, shifts, averages)
                np.add(averages, found[-1], averages)
            now[puts] = made
        lanes.states[active], lanes.places[active] = states, places

    def _singly(self, lane: int, column: int) -> None:
        """The weights of a lane from a column on, one after the other."""
        model = self._groups[self._lanes.groups[lane]].model
        if model.neighbours:
            self._predicted(lane, column)
        elif model.context:
            self._scaled(lane, column)
        else:
            self._plainly(lane, column)

    def _plainly(self, lane: int, column: int) -> None:
        """As `_singly`, where nothing predicts."""
        lanes, words, mask = self._lanes, self._words.data, TOTAL - 1
        group, start, length = self._place(lane)
        state, place, end = int(lanes.states[lane]), int(lanes.places[lane]), int(lanes.ends[lane])
        symbols, (sizes, below, _, _) = group.tables.symbols.data, group.tables.lists
        found = []
        for _ in range(length - column):
            slot = state & mask
            symbol = symbols[slot]
            state = sizes[symbol] * (state >> PRECISION) + slot - below[symbol]
            if state < LOW and place < end:
                state = state << 16 | words[place]
                place += 1
            found.append(symbol)
        self._put(group, start + column, found)
        lanes.states[lane], lanes.places[lane] = state, place

    def _scaled(self, lane: int, column: int) -> None:
        """As `_singly`, where a context does and no neighbour."""
        lanes, words, mask = self._lanes, self._words.data, TOTAL - 1
        group, start, length = self._place(lane)
        state, place, end = int(lanes.states[lane]), int(lanes.places[lane]), int(lanes.ends[lane])
        symbols, (sizes, below, _, moves) = group.tables.symbols.data, group.tables.lists
        octaves, starts = half_octaves().data, (group.tables.starts() + _PLAIN * TOTAL).tolist()
        context = group.model.context
        assert context
        weight, shift, rest = context.weight, context.shift, group.model.rest
        columns = np.arange(column, min(column + context.distance, length))
        there = lanes.reached[_NEAR, lane] & (columns >= lanes.across[_NEAR, lane])
        look = np.where(there, start + lanes.offsets[_NEAR, lane] + columns, lanes.blanks[_NEAR, lane])
        averages, found = self._cells[look].tolist(), []
        for k in range(length - column):
            average = averages[k]
            slot = state & mask
            symbol = symbols[starts[octaves[rest + weight * average >> 4]] + slot]
            state = sizes[symbol] * (state >> PRECISION) + slot - below[symbol]
            if state < LOW and place < end:
                state = state << 16 | words[place]
                place += 1
            found.append(symbol)
            averages.append(average + ((moves[symbol] - average) >> shift))
        self._put(group, start + column, found)
        self._cells[start + column + group.width :][: len(found)] = averages[look.size :]
        lanes.states[lane], lanes.places[lane] = state, place

    def _place(self, lane: int) -> tuple[Group, int, int]:
        """A lane's group, the cell of its first weight and how many it has."""
        lanes = self._lanes
        length = int(lanes.stops[lane] - lanes.delays[lane])
        return self._groups[lanes.groups[lane]], int(lanes.origins[lane]), length

    def _put(self, group: Group, start: int, symbols: list[int]) -> None:
        """The levels of these symbols, which no neighbour predicts, to the cells from `start` on."""
        lift = group.model.centre + 128
        levels = (group.tables.residuals[symbols] + lift & 255) - lift
        self._cells[start : start + len(symbols)] = levels

    def _predicted(self, lane: int, column: int) -> None:
        """As `_singly`, where neighbours do, and a context perhaps."""
        lanes, cells, words, mask = self._lanes, self._cells.data, self._words.data, TOTAL - 1
        group, start, length = self._place(lane)
        state, place, end = int(lanes.states[lane]), int(lanes.places[lane]), int(lanes.ends[lane])
        model, symbols = group.model, group.tables.symbols.data
        sizes, below, residuals, moves = group.tables.lists
        octaves, starts = half_octaves().data, group.tables.starts().tolist()
        first, second, third = [*(each.weight for each in model.neighbours), 0, 0, 0][:_NEAR]
        weight, shift = (model.context.weight, model.context.shift) if model.context else (0, 0)
        lift, rest, plane = model.centre + 128, model.rest, group.width
        across, reached = lanes.across[:, lane], lanes.reached[:, lane]
        changes = across[reached & (across > column) & (across < length)]
        for begin, stop in pairwise([column, *np.unique(changes).tolist(), length]):
            # Where nothing is in sight yet they look at what stands for it.
            seen = reached & (across <= begin)
            look = np.where(seen, lanes.offsets[:, lane], lanes.blanks[:, lane] - start)
            one, two, three, before = look.tolist()
            for i in range(start + begin, start + stop):
                expected = 40 + first * cells[i + one] + second * cells[i + two] + third * cells[i + three]
                average = cells[i + before]
                row = starts[octaves[rest + weight * average >> 4]] + (expected << PRECISION - 4 & _PHASES)
                slot = state & mask
                symbol = symbols[row + slot]
                state = sizes[symbol] * (state >> PRECISION) + slot - below[symbol]
                if state < LOW and place < end:
                    state = state << 16 | words[place]
                    place += 1
                cells[i] = ((expected >> 6) + residuals[symbol] + lift & 255) - lift
                if weight:
                    cells[i + plane] = average + ((moves[symbol] - average) >> shift)
        lanes.states[lane], lanes.places[lane] = state, place


class _Lanes:
    """Per lane: its group, its code, when it runs, and what it looks back at.

    A lane starts at step `delays` and ends before `stops`; `origins` is the cell of its first weight. Of each
    neighbour and then of the context it sees something from column `across` on, if it is `reached` at all:
    the cell `offsets` from its own. Until then it looks at the cell `blanks`.
    """

    def __init__(self, groups: Sequence[Group], bases: Sequence[int], longest: int) -> None:
        counts = [len(each.states) for each in groups]
        self.groups = np.repeat(np.arange(len(groups)), counts)
        self.states = np.array([state for each in groups for state in each.states], np.int64)
        counts_of_words = np.array([len(words) // 2 for each in groups for words in each.words], np.int64)
        self.ends = np.cumsum(counts_of_words)
        self.places = self.ends - counts_of_words
        size = self.groups.size
        self.delays, self.origins, self.prices = (np.zeros(size, np.int64) for _ in range(3))
        self.stops = np.zeros(size, np.int64)
        self.across, self.offsets, self.blanks = (np.zeros((_NEAR + 1, size), np.int64) for _ in range(3))
        self.reached = np.zeros((_NEAR + 1, size), bool)
        end = 0
        for number, (group, base, count) in enumerate(zip(groups, bases, counts, strict=True)):
            self._fill(slice(end, end + count), number, group, base)
            self.blanks[_NEAR:, end : end + count] = longest * (1 + number)
            end += count

    def _fill(self, lanes: slice, number: int, group: Group, base: int) -> None:
        model, stripe = group.model, group.model.stripe
        order = np.arange(lanes.stop - lanes.start)
        looks = [(row, each.distance, 0) for row, each in enumerate(model.neighbours)]
        if model.context:
            looks.append((_NEAR, model.context.distance, group.width))
        for row, distance, plane in looks:
            over, self.across[row, lanes] = divmod(distance, stripe)
            self.offsets[row, lanes] = plane - distance
            self.reached[row, lanes] = group.first + order >= over
        # A weight that the same column of a stripe before helps to predict comes a step after it.
        behind = [distance // stripe for _, distance, _ in looks if distance % stripe == 0]
        self.delays[lanes] = order // min(behind) if behind else 0
        self.stops[lanes] = self.delays[lanes] + np.minimum(stripe, group.count - order * stripe)
        self.origins[lanes] = base + model.farthest + order * stripe
        self.prices[lanes] = 5 if model.neighbours else 2 if model.context else 1

    def spans(self) -> Iterator[tuple[int, int]]:
        """The steps between which no lane starts, ends or gets something in sight."""
        seen = (self.delays + self.across)[self.reached & (self.across < self.stops - self.delays)]
        times = np.unique(np.concatenate([self.delays, self.stops, seen])).tolist()
        return pairwise(times)


class _Code:
    """What groups need to decode in lock-step, one behind the other: `starts` of their rows in `symbols`, and
    of each symbol its size in slots, the slots below it, its residual + centre + 128, and how far off the
    level is from where it was expected, in 1/256."""

    def __init__(self, groups: Sequence[Group]) -> None:
        symbols, sizes, below, residuals, moves, starts = [], [], [], [], [], []
        rows = first = 0
        self.first_symbols = np.zeros(len(groups), np.int64)
        self.lifts, self.rest, self.shifts = (np.zeros(len(groups), np.int32) for _ in range(3))
        self.near, self.planes = (np.zeros(len(groups), np.int64) for _ in range(2))
        self.far = np.zeros(len(groups), bool)
        self.weights = np.zeros((_NEAR + 1, len(groups)), np.int32)
        for number, group in enumerate(groups):
            model = group.model
            tables = group.tables
            symbols.append(tables.symbols)
            sizes.append(np.diff(tables.below, axis=1).ravel())
            below.append(tables.below[:, :-1].ravel())
            self.lifts[number] = model.centre + 128
            residuals.append(tables.residuals + self.lifts[number])
            moves.append(tables.moves)
            starts.append(tables.starts() + rows * TOTAL)
            self.first_symbols[number] = first
            rows += len(tables.below)
            first += sizes[-1].size
            self.near[number], self.far[number] = len(model.neighbours), model.context is not None
            for row, near in enumerate(model.neighbours):
                self.weights[row, number] = near.weight
            if model.context:
                self.weights[_NEAR, number], self.shifts[number] = model.context.weight, model.context.shift
                self.rest[number], self.planes[number] = model.rest, group.width
        self.symbols, self.sizes, self.below, self.residuals, self.moves, self.starts = map(
            np.concatenate, (symbols, sizes, below, residuals, moves, starts)
        )
        self._octaves = half_octaves()

    def starts_of(self, sizes: Cells, octaves: Numbers) -> Numbers:
        """Of the rows of expected sizes in 16ths, of lanes whose groups' octaves begin there."""
        # Places of 64 bits, which numpy need not convert.
        found = self._octaves[np.right_shift(sizes, _4, dtype=np.int64)]
        np.add(found, octaves, found)
        return np.asarray(self.starts[found])

    def draw(self, starts: Numbers, first_symbols: Numbers, states: Numbers) -> Numbers:
        """The next symbols of lanes whose rows start there; states go on."""
        slots = states & _MASK
        np.add(starts, slots, starts)
        symbols: Numbers = self.symbols[starts] + first_symbols
        np.subtract(slots, self.below[symbols], slots)
        np.right_shift(states, _PRECISION, states)
        np.multiply(states, self.sizes[symbols], states)
        np.add(states, slots, states)
        return symbols


def _sum(first: Cells, others: Sequence[Cells], total: Cells) -> None:
    """Of few rows, for which numpy's own takes longer."""
    np.add(first, others[0], total)
    for each in others[1:]:
        np.add(total, each, total)
