"""Codec 2: levels, entropy coded under a model of the next level (docs/pack-format.md, "Codec 2, grid")."""

import micropython
from micropython import const

from ..errors import PackError

_GRID = const(512)
"""Before the contexts' averages, `halves` has the shares of one side, up to so many 32nds."""

# Places in the words: where the decoder is in the code, and the model as `gridmodel` reads it.
_PLACE = const(0)
_END = const(1)
_STATE = const(2)
_COLUMN = const(3)
_STRIPE = const(4)
_NOW = const(5)
_MORE = const(6)  # bytes
_CENTRE = const(7)  # plus 128
_REACH = const(8)
_SPREAD = const(9)
_SLOPE = const(10)
_FIRST = const(11)
_REST = const(12)
_OCTAVES = const(13)
_PAST = const(14)
_LENGTH = const(15)
_NEAR_END = const(16)
_CONTEXTS_END = const(17)
_NEAR = const(18)  # distance, stripes, columns, weight + 128
_CONTEXTS = const(30)  # distance, stripes, columns, shift, weight, first place, place, average
_SHAPE = const(46)  # ratio, change, most
_MANTISSAS = const(49)


class Decoder:
    _constant = -1

    def __init__(self, reader, count, scratch):
        form = reader.u8()
        if form > 1 or (form == 0 and reader.left != 1):
            raise PackError("a grid weights part has an unknown form, or more than its one level")
        if form == 0:
            self._constant = reader.u8()
            return
        from .gridmodel import read_model  # the installer gives its heap back

        self._reader = reader
        self._scratch = scratch
        self._count = count
        self._words = read_model(reader, count, scratch)
        stripes = -(-count // self._words[_LENGTH])
        self._stripes = stripes
        self._counts = reader.position
        total = 0
        for _ in range(1, stripes):
            total += reader.varint()
        self._body = reader.position
        self._last = reader.left - 4 * stripes - 2 * total

    def rewind(self):
        if self._constant >= 0:
            return
        words = self._words
        fill_shares(self._scratch.halves, words)
        words[_STRIPE] = words[_NOW] = words[_CONTEXTS + 6] = words[_CONTEXTS + 14] = 0
        self._left = self._count
        self._place = self._counts
        self._reader.seek(self._body)
        self._begin_stripe()

    def _begin_stripe(self):
        """Read the next stripe's count of words, from where the counts are, and its state."""
        reader = self._reader
        words = self._words
        left = self._last
        if words[_STRIPE] + 1 < self._stripes:
            place = reader.position
            reader.seek(self._place)
            left = 2 * reader.varint()
            self._place = reader.position
            reader.seek(place)
        state = reader.u32()
        if not 0x4000 <= state < 0x40000000 or not 0 <= left <= 2 * words[_LENGTH] or left & 1:
            raise PackError("a stripe of a grid weights part starts out of range")
        words[_STATE] = state
        words[_MORE] = left
        words[_COLUMN] = words[_PLACE] = words[_END] = 0

    def grow(self, out, count):
        if self._constant >= 0:
            fill(out, count, self._constant)
            return
        scratch = self._scratch
        words = self._words
        done = 0
        while done < count:
            if words[_COLUMN] == words[_LENGTH]:
                self._end_stripe()
                words[_STRIPE] += 1
                self._begin_stripe()
            if words[_PLACE] == words[_END] and words[_MORE]:
                load = min(words[_MORE], len(scratch.io))
                self._reader.readinto(scratch.io, load)
                words[_MORE] -= load
                words[_PLACE] = 0
                words[_END] = load >> 1
            self._left += done
            done = decode(out, done, count, scratch.io, words, scratch.table, scratch.halves)
            self._left -= done
            if done < 0 or self._left == 0:
                self._end_stripe()

    def _end_stripe(self):
        words = self._words
        if words[_MORE] or words[_PLACE] != words[_END] or words[_STATE] != 0x4000:
            raise PackError("a stripe of a grid weights part has more or fewer words than it needs")


@micropython.viper
def fill(out: ptr8, count: int, level: int):
    for i in range(count):
        out[i] = level


@micropython.viper
def fill_shares(halves: ptr16, words: ptr32):
    """The share of one side, / 2^15, within k 32nds of the spread."""
    change = words[_SHAPE + 1]
    most = words[_SHAPE + 2]
    unit = 0
    for turn in range(2):
        density = 0x8000
        quotient = words[_SHAPE]
        total = 0
        for k in range(_GRID):
            if turn:
                share = (total << 6) // unit
                if share > 0x8000:
                    share = 0x8000
                halves[k] = share
            total += density
            density = (density * quotient) >> 15
            quotient = (quotient * change) >> 15
            if quotient > most:
                quotient = most
        unit = total >> 9
    halves[_GRID] = 0x8000


@micropython.viper
def decode(  # noqa: PLR0912, PLR0915 (a call per part would cost more than its work)
    out: ptr8, i: int, stop: int, io: ptr16, words: ptr32, past: ptr8, halves: ptr16
) -> int:
    """Decode levels i .. stop - 1, to the end of the stripe at most.

    Returns where it stopped: before `stop` also if the words in `io` ran out and more are to load, -1 if
    there are none.
    """
    place = words[_PLACE]
    end = words[_END]
    more = words[_MORE]
    state = words[_STATE]
    column = words[_COLUMN]
    stripe = words[_STRIPE]
    now = words[_NOW]
    lift = words[_CENTRE]
    centre = lift - 128
    reach = words[_REACH]
    slack = 0x1FFF - 2 * reach
    near_end = words[_NEAR_END]
    contexts_end = words[_CONTEXTS_END]
    length = words[_LENGTH]
    while i < stop and column < length:
        if place == end and more:
            break
        expected = 8
        k = _NEAR
        while k < near_end:
            if column >= words[k + 2] and stripe >= words[k + 1]:
                at = now - words[k]
                if at < 0:
                    at += words[_PAST]
                expected += (words[k + 3] - 128) * ((past[at] ^ 0x80) - lift)
            k += 4
        expected >>= 4
        level = (expected + 2) >> 2
        phase = expected - 4 * level
        exponent = words[_SPREAD]
        k = _CONTEXTS
        if k < contexts_end:
            size = words[_REST]
            while k < contexts_end:
                average = words[_FIRST]
                if column >= words[k + 2] and stripe >= words[k + 1]:
                    average = halves[words[k + 5] + words[k + 6]]
                words[k + 7] = average
                size += words[k + 4] * average
                k += 8
            size >>= 4
            octave = 15
            while octave and size < (1 << octave):
                octave -= 1
            octaves = 2 * octave - words[_OCTAVES]
            if size >= (46341 >> (15 - octave)):
                octaves += 1
            if octaves < -8:
                octaves = -8
            if octaves > 7:
                octaves = 7
            exponent += words[_SLOPE] * octaves
            if exponent < 0:
                exponent = 0
            if exponent > 127:
                exponent = 127
        mantissa = words[_MANTISSAS + (exponent & 7)]
        shift = 4 + (exponent >> 3)
        slot = state & 0x1FFF
        low = 0 - reach
        high = reach + 1
        below = 0
        above = 0x2000
        while high - low > 1:
            middle = (low + high) >> 1
            far = 4 * middle - 2 - phase
            fine = far
            if far < 0:
                fine = 0 - far
            fine = (fine * mantissa) >> shift
            share = 0x8000
            k = fine >> 4
            if k < _GRID:
                share = halves[k]
                share += ((halves[k + 1] - share) * (fine & 15)) >> 4
            if far < 0:
                share = 0 - share
            share = middle + reach + (((0x8000 + share) * slack) >> 16)
            if slot < share:
                high = middle
                above = share
            else:
                low = middle
                below = share
        state = (above - below) * (state >> 13) + slot - below
        if state < 0x4000:
            if place == end:
                words[_STATE] = 0
                return -1
            state = (state << 16) | io[place]
            place += 1
        level = ((level + low + lift) & 0xFF) - lift
        out[i] = level + centre
        past[now] = level + centre
        now += 1
        if now == words[_PAST]:
            now = 0
        size = 4 * level - expected
        if size < 0:
            size = 0 - size
        if size > 1023:
            size = 1023
        size <<= 6
        k = _CONTEXTS
        while k < contexts_end:
            average = words[k + 7]
            at = words[k + 6]
            halves[words[k + 5] + at] = average + ((size - average) >> words[k + 3])
            at += 1
            if at == words[k]:
                at = 0
            words[k + 6] = at
            k += 8
        column += 1
        i += 1
    words[_PLACE] = place
    words[_STATE] = state
    words[_COLUMN] = column
    words[_NOW] = now
    return i
