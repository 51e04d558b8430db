"""ADD of two activations of one shape."""

from micropython import const

from ..errors import PackError
from ..graph import CONSTANT
from ..quant import activation_range, quantize_multiplier, split
from .checks import value

_HEADROOM = const(20)


def lay(op, out):
    """Either input's 256 values, scaled, stand in a table while the op runs."""
    if len(op.inputs) != 2 or len(op.outputs) != 1 or len(op.options) != 1:
        raise PackError("an ADD of the graph does not have two inputs, an output and an option")
    a, b, y = [value(tensor) for tensor in op.inputs + op.outputs]
    if not a.shape == b.shape == y.shape or CONSTANT in (a.kind, b.kind):
        raise PackError("an ADD of the graph has a constant, or inputs of other shapes than its output")
    low, high = activation_range(op.options[0], y)
    # both inputs come to units of twice the larger scale, with _HEADROOM bits more
    a_scale, b_scale, y_scale = split(a.scale), split(b.scale), split(y.scale)
    m, e = a_scale if a.scale > b.scale else b_scale
    twice = m, e + 1
    m, e = y_scale
    a_m, a_shift = quantize_multiplier(a_scale, twice)
    b_m, b_shift = quantize_multiplier(b_scale, twice)
    m, shift = quantize_multiplier(twice, (m, e + _HEADROOM))
    if shift > 0:
        raise PackError("an ADD of the graph has an output scale far below those of its inputs")
    yield 2048
    out.params(
        a.place,
        b.place,
        y.place,
        y.count,
        low,
        high,
        y.zero_point + 128,
        m,
        -shift,
        a.zero_point + 128,
        a_m,
        -a_shift,
        b.zero_point + 128,
        b_m,
        -b_shift,
    )
