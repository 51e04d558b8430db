"""CONCATENATION, PAD, TRANSPOSE and STRIDED_SLICE: copies along axes."""

from array import array

from micropython import const

from ..errors import PackError
from ..graph import CONSTANT
from .checks import operand, value
from .strides import advances, merged, padded, strides, varint, varints, write_constant

_CONCATENATION = const(2)
_PAD = const(34)
_TRANSPOSE = const(39)
_HEAD = const(112)


def lay(op, out):
    """The record holds, for each copy, the bytes of the next one, whether it is of a constant, source,
    target, the axes and, if it is of one, the constant."""
    if len(op.outputs) != 1 or not op.inputs or (len(op.inputs) > 1 and op.code != _CONCATENATION):
        raise PackError(
            f"an op {op.code} of the graph has {len(op.inputs)} inputs, {len(op.outputs)} outputs"
        )
    y = value(op.outputs[0])
    for x in op.inputs:
        if operand(x).scale != y.scale or x.zero_point != y.zero_point:
            raise PackError(f"an op {op.code} of the graph has an output in other units than its input")
        if len(x.shape) != len(y.shape) or (x.kind == CONSTANT and op.code != _CONCATENATION):
            raise PackError(f"an op {op.code} of the graph has an input of rank {len(x.shape)} or constant")
    copies = list(_copies(op, y))
    sizes = [_HEAD + (padded(copy[0]) if copy[0].kind == CONSTANT else 0) for copy in copies]
    yield max(sizes)
    out.params(sizes[0], y.place, y.count if op.code == _PAD else 0, y.zero_point + 128)
    sizes.append(0)
    for i, (x, source, target, axes) in enumerate(copies):
        constant = x.kind == CONSTANT
        base = _HEAD if constant else x.place
        out.write(array("i", [sizes[i + 1], constant, base + source, y.place + target]))
        out.write(advances(merged(axes), 2))
        if constant:
            write_constant(out, x)


def _copies(op, y):
    """(input, first value there, first value in the output, axes) per copy."""
    x = op.inputs[0]
    given, wanted = strides(x.shape), strides(y.shape)
    if op.code == _CONCATENATION:
        yield from _parts(op, y, wanted)
    elif op.code == _PAD:
        numbers = varints(op.options)
        before = numbers[::2]
        _need(len(numbers) == 2 * len(x.shape))
        _need(y.shape == tuple([b + n + a for b, n, a in zip(before, x.shape, numbers[1::2])]))
        yield x, 0, _dot(before, wanted), list(zip(x.shape, given, wanted))
    elif op.code == _TRANSPOSE:
        _need(sorted(op.options) == list(range(len(x.shape))))
        _need(y.shape == tuple([x.shape[axis] for axis in op.options]))
        yield x, 0, 0, list(zip(y.shape, [given[axis] for axis in op.options], wanted))
    else:
        begins, steps = _slices(op.options)
        _need(len(begins) == len(x.shape))
        for size, count, begin, step in zip(x.shape, y.shape, begins, steps):
            _need(step and begin < size and 0 <= begin + (count - 1) * step < size)
        moves = [step * stride for step, stride in zip(steps, given)]
        yield x, _dot(begins, given), 0, list(zip(y.shape, moves, wanted))


def _parts(op, y, wanted):
    """The inputs of a CONCATENATION, one behind the other along its axis."""
    _need(len(op.options) == 1 and op.options[0] < len(y.shape))
    axis = op.options[0]
    end = 0
    for x in op.inputs:
        _need(x.shape[:axis] == y.shape[:axis] and x.shape[axis + 1 :] == y.shape[axis + 1 :])
        yield x, 0, end * wanted[axis], list(zip(x.shape, strides(x.shape), wanted))
        end += x.shape[axis]
    _need(end == y.shape[axis])


def _slices(options):
    """Begins and strides."""
    begins = []
    steps = []
    place = 0
    while place < len(options):
        begin, place = varint(options, place)
        _need(place < len(options))
        begins.append(begin)
        steps.append((options[place] ^ 0x80) - 0x80)
        place += 1
    return begins, steps


def _need(fits):
    if not fits:
        raise PackError("an op of the graph that moves values has options or shapes that do not fit")


def _dot(a, b):
    return sum([i * j for i, j in zip(a, b)])
