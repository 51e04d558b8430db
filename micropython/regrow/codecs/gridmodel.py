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
_NEAR = const(18)
_CONTEXTS = const(30)
_SHAPE = const(46)
_MANTISSA = const(49)
_WORDS = const(57)
_AVERAGES = const(513)


def read_model(forms, reader, count, scratch):
    """The words of the decoder of `count` weights; the scratch has room for what it looks back at."""
    centre = reader.i8() if forms >> 7 else 0
    reach = reader.u8()
    spread = reader.u8()
    stripe = 16 + 16 * reader.varint()
    contexts = forms >> 5 & 3
    words = array("I", bytes(4 * _WORDS))
    past = 1
    near = _NEAR
    for _ in range(forms >> 3 & 3):
        past = max(past, min(_back(words, near, reader, stripe, 20480), count))
        words[near + 3] = reader.i8() + 128
        near += 4
    slope = size = 0
    if contexts:
        slope = reader.u8()
        size = reader.u8()
    rest = 16
    context = _CONTEXTS
    averages = _AVERAGES
    for _ in range(min(contexts, 2)):
        distance = _back(words, context, reader, stripe, 4096)
        both = reader.u8()
        words[context + 3] = both & 15
        words[context + 4] = both >> 4
        words[context + 5] = averages
        rest -= both >> 4
        averages += min(distance, count)
        context += 8
    if (
        not (1 <= reach <= 128 and stripe <= 65520)
        or spread > 127
        or contexts > 2
        or slope > 15
        or size > 120
        or rest < 0
    ):
        raise PackError("a grid weights part has a model out of range")
    first = _ROOTS[-size & 7] >> (15 - (size + 7 >> 3))
    _put(words, _FIELDS, (centre + 128, reach, spread, slope, first, rest * first, _octaves(first)))
    _put(words, _PAST, (past, stripe, near, context))
    _put(words, _SHAPE, _SHAPES[forms & 7])
    _put(words, _MANTISSA, _ROOTS)
    scratch.plan(past, averages)
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
