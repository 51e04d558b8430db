"""The loops of codec grid. Their words: where they are in the code, and the model as `gridmodel` reads it."""

import micropython
from micropython import const

_GRID = const(512)
"""Before the context's averages, `halves` has the shares of one side, up to so many 32nds."""
_AVERAGES = const(513)

# Places in the words.
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
_NEAR = const(17)  # distance, stripes, columns, weight + 128
_CONTEXT = const(29)  # distance (0: there is none), stripes, columns, shift, weight, place
_SHAPE = const(35)  # ratio, change, most
_MANTISSAS = const(38)


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

    Returns where it stopped: before `stop` also if the words in `io` ran out and more are to load.
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
    distance = words[_CONTEXT]
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
        average = 0
        if distance:
            average = words[_FIRST]
            if column >= words[_CONTEXT + 2] and stripe >= words[_CONTEXT + 1]:
                average = halves[_AVERAGES + words[_CONTEXT + 5]]
            size = (words[_REST] + words[_CONTEXT + 4] * average) >> 4
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
        if state < 0x4000 and place != end:
            state = (state << 16) | io[place]
            place += 1
        level = ((level + low + lift) & 0xFF) - lift
        out[i] = level + centre
        past[now] = level + centre
        now += 1
        if now == words[_PAST]:
            now = 0
        size = 4 * low - phase
        if size < 0:
            size = 0 - size
        size <<= 6
        if distance:
            at = words[_CONTEXT + 5]
            halves[_AVERAGES + at] = average + ((size - average) >> words[_CONTEXT + 3])
            at += 1
            if at == distance:
                at = 0
            words[_CONTEXT + 5] = at
        column += 1
        i += 1
    words[_PLACE] = place
    words[_STATE] = state
    words[_COLUMN] = column
    words[_NOW] = now
    return i
