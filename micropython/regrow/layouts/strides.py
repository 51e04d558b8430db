"""What operators that move along several axes share."""

from array import array

from ..errors import PackError
from ..quant import BIAS

_AXES = 6


def strides(shape):
    """Values from one to the next along each axis."""
    steps = []
    step = 1
    for size in reversed(shape):
        steps.insert(0, step)
        step *= size
    return steps


def merged(axes):
    """The axes, each a list of its count and the steps of the pointers that walk along it, from the outermost
    to the innermost; in the fewest that take the same places in the same order, from the innermost on."""
    result = []
    for axis in reversed(axes):
        if axis[0] == 1:
            continue
        if result and axis[1:] == [result[-1][0] * step for step in result[-1][1:]]:
            result[-1][0] *= axis[0]
        else:
            result.append(list(axis))
    return result


def advances(axes, pointers):
    """Per axis, from the innermost on, of which there are 6 at last: count left, count, and for each pointer
    BIAS + what it moves by when that axis counts down and those before it are at their end."""
    words = array("i")
    done = [0] * pointers
    for i in range(_AXES):
        axis = axes[i] if i < len(axes) else [1] + [0] * pointers
        words.extend(array("i", [axis[0], axis[0]]))
        words.extend(array("i", [step - back + BIAS for step, back in zip(axis[1:], done)]))
        done = [axis[0] * step for step in axis[1:]]
    return words


def varints(options):
    """All of the options, which are unsigned LEB128 numbers."""
    numbers = []
    place = 0
    while place < len(options):
        number, place = varint(options, place)
        numbers.append(number)
    return numbers


def varint(options, place):
    """The number at that place, and the place behind it."""
    number = 0
    for shift in range(0, 28, 7):
        if place < len(options):
            number |= (options[place] & 0x7F) << shift
            place += 1
            if options[place - 1] < 0x80:
                return number, place
    raise PackError("an op of the graph has a number in its options that does not end or is too large")


def padded(tensor):
    """Bytes that `write_constant` writes."""
    return (tensor.size + 3) & -4


def write_constant(out, tensor):
    """Write the values of a constant as level + 128, and zeros up to a multiple of 4 bytes."""
    reader = out.constant(tensor)
    left = tensor.size
    while left:
        piece = reader.read(min(left, 64))
        place = reader.position
        out.write(bytes([level ^ 0x80 for level in piece]))
        reader.seek(place)
        left -= len(piece)
    out.write(bytes(padded(tensor) - tensor.size))
