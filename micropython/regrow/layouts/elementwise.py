"""ADD, SUB and MUL of two tensors that broadcast; one may be a constant."""

from micropython import const

from ..errors import PackError
from ..graph import CONSTANT
from ..quant import BIAS, activation_range, product, quantize_multiplier, requantize, rounded, split
from .checks import operand, value
from .strides import advances, merged, padded, strides, write_constant

_SUB = const(41)
_MUL = const(18)
_HEADROOM = const(20)
_WIDEST = const(22)  # so that words stay below 2**30 + 2**22
_LEFT = const(13)  # shifted left by more, every product but 0 is out of range
_AXES = const(96)
_TABLES = const(2048)
_STAIRS = const(2048)  # bytes for the outputs of an ADD of one shape; more are used where there is room


def lay(op, out):
    """The record holds the axes, then the constant."""
    if len(op.inputs) != 2 or len(op.outputs) != 1 or len(op.options) != 1:
        raise PackError(f"an op {op.code} of the graph does not have two inputs, an output and an option")
    a, b, y = operand(op.inputs[0]), operand(op.inputs[1]), value(op.outputs[0])
    if a.kind == b.kind == CONSTANT:
        raise PackError(f"an op {op.code} of the graph has two constants")
    low, high = activation_range(op.options[0], y)
    if alike(op):
        scales = _of_sum(a, b, y)
        room = yield _TABLES + _STAIRS
        out.kernel = "add"
        m, right, a_m, a_right, b_m, b_right = scales
        out.params(
            a.place,
            b.place,
            y.place,
            y.count,
            low,
            high,
            y.zero_point + 128,
            m,
            right,
            a.zero_point + 128,
            a_m,
            a_right,
            b.zero_point + 128,
            b_m,
            b_right,
            *_stairs(a, b, y, (low, high), scales, (room - _TABLES) // 4),
        )
        return
    multiplies = op.code == _MUL
    scales = _of_product(a, b, y) if multiplies else _of_sum(a, b, y)
    axes = merged(list(zip(y.shape, _steps(a, y), _steps(b, y))))
    constant = a if a.kind == CONSTANT else b if b.kind == CONSTANT else None
    size = _AXES + (padded(constant) if constant else 0)
    tables = (size + 7) & -8
    yield tables + (0 if multiplies else _TABLES)
    out.params(
        _AXES if constant is a else a.place,
        _AXES if constant is b else b.place,
        y.place,
        low,
        high,
        y.zero_point + 128,
        a.zero_point + 128,
        b.zero_point + 128,
        multiplies,
        op.code == _SUB,
        constant is a,
        constant is b,
        size,
        tables,
        *scales,
    )
    out.write(advances(axes, 2))
    if constant:
        write_constant(out, constant)


def alike(op):
    """Whether the op adds two activations of the shape of its output, which kernels/add.py does."""
    shape = op.outputs[0].shape
    return not op.code and not [each for each in op.inputs if each.kind == CONSTANT or each.shape != shape]


def _steps(x, y):
    """The steps through x along the axes of y: 0 where its one value serves all."""
    missing = len(y.shape) - len(x.shape)
    steps = [0] * missing
    for size, wanted, step in zip(x.shape, y.shape[max(0, missing) :], strides(x.shape)):
        if size not in (1, wanted):
            missing = -1
        steps.append(step if size > 1 else 0)
    if missing < 0:
        raise PackError(f"an op of the graph has inputs that do not broadcast to {y.shape}")
    return steps


def _of_sum(a, b, y):
    """Multipliers, and shifts to the right, of the output and of both inputs, which come to units of twice
    the larger scale, with _HEADROOM bits more."""
    a_scale, b_scale, (m, e) = split(a.scale), split(b.scale), split(y.scale)
    larger = a_scale if a.scale > b.scale else b_scale
    twice = larger[0], larger[1] + 1
    a_m, a_shift = quantize_multiplier(a_scale, twice)
    b_m, b_shift = quantize_multiplier(b_scale, twice)
    m, shift = quantize_multiplier(twice, (m, e + _HEADROOM))
    if shift > 0:
        raise PackError("an ADD or SUB of the graph has an output scale far below those of its inputs")
    return m, -shift, a_m, -a_shift, b_m, -b_shift


def _stairs(a, b, y, bounds, scales, most):
    """How the outputs of an ADD grow with the sums: n if 2**n sums go together, which gives `most` words at
    most (otherwise 0); sums to a step; BIAS + where the first step is, about; how many words; BIAS + the
    lowest sum, and its output."""
    m, right, a_m, a_right, b_m, b_right = scales
    zero = y.zero_point + 128
    first = last = 0
    for x, factor, shift in ((a, a_m, a_right), (b, b_m, b_right)):
        low, high = [requantize((i - 128 - x.zero_point) << _HEADROOM, factor, -shift) for i in (0, 255)]
        first, last = first + low, last + high
    step = (1 << 31 + right) // max(1, m)
    n = 0
    while n < _WIDEST and 2 << n <= step - 4:  # rounding moves steps by 2, so that two never go together
        n += 1
    count = (last - first >> n) + 1
    start = min(bounds[1], max(bounds[0], requantize(first, m, -right) + zero))
    guess = (2 * (start - zero) + 1 << 30 + right) // max(1, m)
    if count > most or not m:
        n = 0
    if guess > last:
        guess = first + (count << n)
    return n, min(step, BIAS), BIAS + max(first, guess), count, BIAS + first, start


def _of_product(a, b, y):
    """Multiplier, shift to the right and to the left of the output; scales are rounded as float32."""
    m, e = rounded(product(a.scale, b.scale))
    divisor, f = split(y.scale)
    quotient, rest = divmod(m << 60, divisor)
    m, shift = quantize_multiplier(rounded((quotient << 1 | (rest > 0), e - f - 61)))
    return m, max(0, -shift), min(max(0, shift), _LEFT)
