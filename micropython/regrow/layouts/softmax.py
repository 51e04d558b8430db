"""SOFTMAX in fixed point, as TFLite's reference kernel computes it with gemmlowp's functions.

Q(n) is a 32-bit fixed-point number with n integer bits; 1 in Q(0) is 2**31 - 1.
"""

from array import array

from micropython import const

from ..errors import PackError
from ..quant import product, quantize_multiplier
from .checks import single

_ONE = 0x7FFFFFFF
_DIFFERENCE_BITS = const(5)
_LONGEST = const(512)
_EXP_OF_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
"""exp(-2**k) in Q(0) for k = -2..4."""


def lay(op, out):
    """The record holds exp of the 256 differences to a row's maximum."""
    x, y = single(op)
    if len(op.options) != 4 or x.shape != y.shape or not x.shape:
        raise PackError("a SOFTMAX of the graph has no beta or changes the shape")
    depth = x.shape[-1]
    if depth > _LONGEST:
        raise PackError(f"a SOFTMAX of the graph has rows of {depth} values, over {_LONGEST}")
    if y.scale != 0x3B800000 or y.zero_point != -128:
        raise PackError("a SOFTMAX of the graph has an output scale other than 1/256")
    yield 1024
    out.params(x.place, y.place, x.count, depth)
    m, e = product(int.from_bytes(op.options, "little"), x.scale)
    e += 31 - _DIFFERENCE_BITS
    if e > 0 or m >> -e >= _ONE:
        m, e = _ONE, 0
    multiplier, shift = quantize_multiplier((m, e))
    if shift < 0:
        raise PackError("a SOFTMAX of the graph has an input scale too small for its arithmetic")
    table = array("i", bytes(1024))
    for below in range(min(256, (31 << 26 >> shift) + 1)):
        table[below] = _exp(_high_mul(-below << shift, multiplier))
    out.write(table)


def _exp(a):
    """exp(a) in Q(0) for a <= 0 in Q(5): a quarter's remainder by series, the rest by powers of 2."""
    if not a:
        return _ONE
    quarter = 1 << 29 - _DIFFERENCE_BITS
    remainder = (a & quarter - 1) - quarter
    result = _exp_of_quarter(remainder << _DIFFERENCE_BITS)
    rest = remainder - a
    for factor in _EXP_OF_POWERS:
        if rest & quarter:
            result = _high_mul(result, factor)
        rest >>= 1
    return result


def _exp_of_quarter(a):
    """exp(a) in Q(0) for -1/4 <= a < 0, by the series of degree 4 around -1/8."""
    centre, third = 1895147668, 715827883
    x = a + (1 << 28)
    square = _high_mul(x, x)
    cube = _high_mul(square, x)
    fourth = _shift_right(_high_mul(square, square), 2)
    tail = _shift_right(_high_mul(fourth + cube, third) + square, 1)
    return centre + _high_mul(centre, x + tail)


def _high_mul(a, b):
    """a * b / 2**31, halves upward: gemmlowp's SaturatingRoundingDoublingHighMul."""
    return (a * b + 0x40000000) >> 31


def _shift_right(x, by):
    """x / 2**by, halves away from zero: gemmlowp's RoundingDivideByPOT."""
    return (x + (1 << by - 1) - (x < 0)) >> by
