"""What codec grid expects of the next level (docs/pack-format.md, "Codec 2, grid"): a model's fields."""

from array import array

from micropython import const

from ..errors import PackError

_SHAPES = (
    (30583, 32788, 32588),
    (31173, 32776, 32513),
    (31465, 32772, 32513),
    (31760, 32768, 32767),
    (32007, 32764, 32767),
    (32255, 32759, 32767),
    (32506, 32753, 32767),
    (32758, 32748, 32767),
)
_ROOTS = (32768, 30048, 27554, 25268, 23170, 21247, 19484, 17867)

# Places as in `gridkernel`: in the words, and in scratch.halves.
_FIELDS = const(7)
_PAST = const(14)
_NEAR = const(17)
_CONTEXT = const(29)
_SHAPE = const(35)
_MANTISSA = const(38)
_WORDS = const(46)
_AVERAGES = const(513)


def read_model(forms, reader, count, scratch):
    """The words of the decoder of `count` weights; the scratch has room for what it looks back at."""
    centre = reader.i8() if forms >> 7 else 0
    reach = reader.u8()
    spread = reader.u8()
    stripe = 16 + 16 * reader.varint()
    words = array("I", bytes(4 * _WORDS))
    past = 1
    near = _NEAR
    for _ in range(forms >> 3 & 3):
        past = max(past, min(_back(words, near, reader, stripe, 20480), count))
        words[near + 3] = reader.i8() + 128
        near += 4
    slope = size = distance = weight = 0
    if forms & 0x20:
        slope = reader.u8()
        size = reader.u8()
        distance = _back(words, _CONTEXT, reader, stripe, 4096)
        both = reader.u8()
        weight = both >> 4
        words[_CONTEXT + 3] = both & 15
        words[_CONTEXT + 4] = weight
    if (
        forms & 0x40
        or not (1 <= reach <= 128 and stripe <= 65520)
        or spread > 127
        or slope > 15
        or size > 120
    ):
        raise PackError("a grid weights part has a model out of range")
    first = _ROOTS[-size & 7] >> (15 - (size + 7 >> 3))
    _put(words, _FIELDS, (centre + 128, reach, spread, slope, first, (16 - weight) * first, _octaves(first)))
    _put(words, _PAST, (past, stripe, near))
    _put(words, _SHAPE, _SHAPES[forms & 7])
    _put(words, _MANTISSA, _ROOTS)
    scratch.plan(past, _AVERAGES + min(distance, count))
    return words


def _back(words, place, reader, stripe, most):
    """Read a distance of at most so many weights: it, and how many stripes and columns that is."""
    distance = reader.varint()
    if not 0 < distance <= most:
        raise PackError("a grid weights part looks back out of range")
    words[place] = distance
    words[place + 1] = distance // stripe
    words[place + 2] = distance % stripe
    return distance


def _put(words, place, values):
    for value in values:
        words[place] = value
        place += 1


def _octaves(size):
    """2 log2 of a size below 2^16, rounded down."""
    octave = 15
    while size < 1 << octave:
        octave -= 1
    return 2 * octave + (size >= 46341 >> (15 - octave))
