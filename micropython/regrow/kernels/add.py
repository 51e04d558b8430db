"""ADD of two activations of one shape."""

from array import array

import micropython
from micropython import const

from ..errors import PackError
from ..graph import INT8, WEIGHTS
from ..quant import activation_range, quantize_multiplier, split

_HEADROOM = const(20)
_HALF = const(0x10000000)


def build(node, plan):
    return Add(node, plan)


class Add:
    """Either input's 256 values, scaled, stand in a table of the scratch while the op runs."""

    def __init__(self, node, plan):
        if len(node.inputs) != 2 or len(node.outputs) != 1 or len(node.options) != 1 or None in node.inputs:
            raise PackError("an ADD of the graph does not have two inputs, an output and an option")
        a, b = node.inputs
        y = node.outputs[0]
        if not a.shape == b.shape == y.shape or WEIGHTS in (a.kind, b.kind):
            raise PackError("an ADD of the graph has inputs of other shapes than its output, or weights")
        if a.dtype or b.dtype or y.dtype != INT8:
            raise PackError("an ADD of the graph has values of another type than int8")
        low, high = activation_range(node.options[0], y)
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
        plan.need(0, 2048)
        self.params = array(
            "i",
            (
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
            ),
        )

    def prepare(self, node, plan, buffers):
        pass

    def run(self, buffers):
        add(buffers.arena, buffers.scratch, self.params)


@micropython.viper
def add(arena: ptr8, tables: ptr32, p: ptr32):
    """The sum of two table entries (_HALF above their value), requantized; an input may be the output."""
    t = tables
    which = 9
    while which < 15:
        m_high = p[which + 1] >> 16
        m_low = p[which + 1] & 0xFFFF
        right = p[which + 2]
        i = 0
        while i < 256:
            s = (i - p[which]) << _HEADROOM
            high_bits = s >> 15
            y = (((high_bits * m_low) >> 1) + 0x4000) >> 15
            y += high_bits * m_high
            if right:
                y = (y + (1 << (right - 1)) + (y >> 31)) >> right
            t[i] = y + _HALF
            i += 1
        t = ptr32(uint(t) + 1024)
        which += 3
    a = ptr8(uint(arena) + p[0])
    b = ptr8(uint(arena) + p[1])
    out = ptr8(uint(arena) + p[2])
    t = ptr32(uint(tables) + 1024)
    low = p[4]
    high = p[5]
    zero = p[6]
    m_high = p[7] >> 16
    m_low = p[7] & 0xFFFF
    right = p[8]
    i = 0
    while i < p[3]:
        s = tables[a[i]] + t[b[i]] - 0x20000000
        high_bits = s >> 15
        low_bits = s & 0x7FFF
        y = (((((low_bits * m_low) >> 15) + high_bits * m_low) >> 1) + low_bits * m_high + 0x4000) >> 15
        y += high_bits * m_high
        if right:
            y = (y + (1 << (right - 1)) + (y >> 31)) >> right
        y += zero
        if y < low:
            y = low
        if y > high:
            y = high
        out[i] = y
        i += 1
