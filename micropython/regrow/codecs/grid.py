"""Codec 2: integer levels, entropy coded by interleaved range ANS."""

import micropython

from ..errors import PackError


class Decoder:
    def __init__(self, reader, count, scratch):
        if reader.u8() != 0:
            raise PackError("a grid weights part has a model form that this version does not know")
        self._precision = reader.u8()
        self._lanes = reader.u8()
        self._lowest = reader.i8()
        self._symbols = reader.u8() + 1
        if not 8 <= self._precision <= 12 or not 1 <= self._lanes <= count:
            raise PackError("a grid weights part has a header out of range")
        if self._lowest + self._symbols - 1 > 127:
            raise PackError("a grid weights part has levels above 127")
        self._left = self._count = count
        self._reader = reader
        self._body = reader.position
        self._scratch = scratch
        scratch.plan(1 << self._precision, self._symbols, self._lanes)

    def rewind(self):
        """Read the frequencies and lane states into the shared tables."""
        reader = self._reader
        scratch = self._scratch
        reader.seek(self._body)
        total = 1 << self._precision
        start = 0
        for symbol in range(self._symbols):
            frequency = reader.varint()
            if frequency > total - start:
                break
            scratch.starts[symbol] = start
            _fill(scratch.table, start, start + frequency, symbol)
            start += frequency
        else:
            frequency = 0
        if frequency or start != total:
            raise PackError(f"the frequencies of a grid weights part do not add up to {total}")
        scratch.starts[self._symbols] = total
        reader.readinto(scratch.lanes, 4 * self._lanes)
        if not _states_valid(scratch.lanes, self._lanes) or reader.left & 1:
            raise PackError("a grid weights part has a lane state out of range or half a word")
        self._left = self._count
        scratch.cursor[0] = scratch.cursor[1] = scratch.cursor[2] = 0

    def grow(self, out, count):
        scratch = self._scratch
        cursor = scratch.cursor
        done = 0
        while done < count:
            if cursor[0] == cursor[1]:
                scratch.refill(self._reader)
            done = _decode(
                out,
                done,
                count,
                scratch.io,
                cursor,
                1 if self._reader.left else 0,
                scratch.lanes,
                self._lanes,
                scratch.table,
                scratch.starts,
                self._precision,
                self._lowest,
            )
            if done < 0:
                raise PackError("a grid weights part has too few words")
        self._left -= count
        if self._left == 0 and (
            self._reader.left or cursor[0] != cursor[1] or not _states_final(scratch.lanes, self._lanes)
        ):
            raise PackError("a grid weights part does not end where its weights end")


@micropython.viper
def _fill(table: ptr8, start: int, stop: int, symbol: int):
    for slot in range(start, stop):
        table[slot] = symbol


@micropython.viper
def _states_valid(halves: ptr16, lanes: int) -> bool:
    """Whether every state is in 2**14 .. 2**30 - 1; in halves, as a bad state may not fit a board's int."""
    for lane in range(lanes):
        high = halves[2 * lane + 1]
        if high > 0x3FFF or (high == 0 and halves[2 * lane] < 0x4000):
            return False
    return True


@micropython.viper
def _states_final(states: ptr32, lanes: int) -> bool:
    for lane in range(lanes):
        if states[lane] != 0x4000:
            return False
    return True


@micropython.viper
def _decode(
    out: ptr8,
    i: int,
    stop: int,
    words: ptr16,
    cursor: ptr32,
    more: int,
    states: ptr32,
    lanes: int,
    table: ptr8,
    starts: ptr16,
    precision: int,
    lowest: int,
) -> int:
    """Decode levels i .. stop - 1. The cursor holds place and end in the words, and the lane.

    Returns where it stopped: before `stop` if the words ran out and more are to load, -1 if there are none.
    """
    place = cursor[0]
    end = cursor[1]
    lane = cursor[2]
    mask = (1 << precision) - 1
    while i < stop:
        if place == end and more:
            break
        state = states[lane]
        slot = state & mask
        symbol = table[slot]
        start = starts[symbol]
        state = (starts[symbol + 1] - start) * (state >> precision) + slot - start
        if state < 0x4000:
            if place == end:
                return -1
            state = (state << 16) | words[place]
            place += 1
        states[lane] = state
        lane += 1
        if lane == lanes:
            lane = 0
        out[i] = symbol + lowest
        i += 1
    cursor[0] = place
    cursor[2] = lane
    return i
