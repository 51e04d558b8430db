"""SOFTMAX in fixed point, as TFLite's reference kernel computes it with gemmlowp's functions.

Q(n) is a 32-bit fixed-point number with n integer bits; 1 in Q(0) is 2**31 - 1. The table and the reciprocal
are computed in plain Python.
"""

from array import array

import micropython
from micropython import const

from ..errors import PackError
from ..graph import INT8, WEIGHTS
from ..quant import high_mul, product, quantize_multiplier, shift_right

_ONE = 0x7FFFFFFF
_DIFFERENCE_BITS = const(5)
_SUM_BITS = const(12)
_LONGEST = const(512)
_EXP_OF_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
"""exp(-2**k) in Q(0) for k = -2..4."""


def build(node, plan):
    return Softmax(node)


class Softmax:
    """Rows along the last axis; exp of the 256 differences to a row's maximum is in a table."""

    def __init__(self, node):
        if len(node.inputs) != 1 or len(node.outputs) != 1 or len(node.options) != 4 or None in node.inputs:
            raise PackError("a SOFTMAX of the graph does not have an input, an output and its beta")
        x, y = node.inputs[0], node.outputs[0]
        if x.shape != y.shape or not x.shape or x.kind == WEIGHTS or x.dtype or y.dtype != INT8:
            raise PackError("a SOFTMAX of the graph has values of another shape or type than int8")
        if x.shape[-1] > _LONGEST:
            raise PackError(f"a SOFTMAX of the graph has rows of {x.shape[-1]} values, over {_LONGEST}")
        if y.scale != 0x3B800000 or y.zero_point != -128:
            raise PackError("a SOFTMAX of the graph has an output scale other than 1/256")
        self.source, self.target, self.count = x.place, y.place, x.count
        self.depth = x.shape[-1]

    def prepare(self, node, plan, buffers):
        beta = int.from_bytes(node.options, "little")
        m, e = product(beta, node.inputs[0].scale)
        e += 31 - _DIFFERENCE_BITS
        if e > 0 or m >> -e >= _ONE:
            m, e = _ONE, 0
        multiplier, shift = quantize_multiplier((m, e))
        if shift < 0:
            raise PackError("a SOFTMAX of the graph has an input scale too small for its arithmetic")
        lowest = 31 << 26 >> shift
        self.exp = array("i", bytes(1024))
        for below in range(min(256, lowest + 1)):
            self.exp[below] = _exp(high_mul(-below << shift, multiplier))

    def run(self, buffers):
        arena, exp, depth = buffers.arena, self.exp, self.depth
        row = 0
        while row < self.count:
            top = highest(arena, self.source + row, depth)
            total = sum_of_exp(arena, self.source + row, depth, top, exp)
            bits = 0
            while total >> bits:
                bits += 1
            scale = _one_over_one_plus((total << 32 - bits) - _ONE - 1)
            divide(arena, self.source + row, self.target + row, depth, top, exp, scale, _SUM_BITS - 9 + bits)
            row += depth


@micropython.viper
def highest(arena: ptr8, source: int, depth: int) -> int:
    """The largest of `depth` values."""
    x = ptr8(uint(arena) + source)
    top = 0
    i = 0
    while i < depth:
        if x[i] > top:
            top = x[i]
        i += 1
    return top


@micropython.viper
def sum_of_exp(arena: ptr8, source: int, depth: int, top: int, exp: ptr32) -> int:
    """The sum, in Q(_SUM_BITS), of exp of each value less the largest."""
    x = ptr8(uint(arena) + source)
    total = 0
    i = 0
    while i < depth:
        total += ((exp[top - x[i]] >> (_SUM_BITS - 1)) + 1) >> 1
        i += 1
    return total


@micropython.viper
def divide(arena: ptr8, source: int, target: int, depth: int, top: int, exp: ptr32, scale: int, shift: int):
    """exp times the sum's reciprocal, its mantissa `scale` in Q(0), shifted right to units of 1/256."""
    x = ptr8(uint(arena) + source)
    out = ptr8(uint(arena) + target)
    high = scale >> 16
    low = scale & 0xFFFF
    i = 0
    while i < depth:
        e = exp[top - x[i]]
        m_high = e >> 16
        m_low = e & 0xFFFF
        a = high * m_low + (((low >> 1) * m_low + (((low & 1) * m_low) >> 1)) >> 15)
        b = low * m_high
        y = (a >> 15) + (b >> 15) + (((a & 0x7FFF) + (b & 0x7FFF) + 0x4000) >> 15) + ((high * m_high) << 1)
        y = ((y >> (shift - 1)) + 1) >> 1
        if y > 255:
            y = 255
        out[i] = y
        i += 1


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
            result = high_mul(result, factor)
        rest >>= 1
    return result


def _exp_of_quarter(a):
    """exp(a) in Q(0) for -1/4 <= a < 0, by the series of degree 4 around -1/8."""
    centre, third = 1895147668, 715827883
    x = a + (1 << 28)
    square = high_mul(x, x)
    cube = high_mul(square, x)
    fourth = shift_right(high_mul(square, square), 2)
    tail = shift_right(high_mul(fourth + cube, third) + square, 1)
    return centre + high_mul(centre, x + tail)


def _one_over_one_plus(a):
    """1 / (1 + a) in Q(0) for 0 <= a < 1: Newton's division by (1 + a) / 2 in Q(2), then halved."""
    half = (a + _ONE + 1) >> 1
    x = 1515870810 + high_mul(half, -1010580540)
    for _ in range(3):
        x += high_mul(x, (1 << 29) - high_mul(half, x)) << 2
    return min(x << 1, _ONE)
