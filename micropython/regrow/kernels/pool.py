"""AVERAGE_POOL_2D and MAX_POOL_2D."""

from array import array

import micropython

from ..errors import PackError
from ..graph import INT8, WEIGHTS
from ..quant import activation_range
from .window import axis


def build(node, plan):
    return Pool(node)


class Pool:
    def __init__(self, node):
        if len(node.inputs) != 1 or len(node.outputs) != 1 or len(node.options) != 6 or None in node.inputs:
            raise PackError("a pooling of the graph does not have an input, an output and 6 options")
        x, y = node.inputs[0], node.outputs[0]
        if len(x.shape) != 4 or x.shape[0] != 1 or x.kind == WEIGHTS or x.dtype or y.dtype != INT8:
            raise PackError("a pooling of the graph has an input that is no int8 image")
        if x.scale != y.scale or x.zero_point != y.zero_point:
            raise PackError("a pooling of the graph has an output scale or zero point other than its input's")
        _, height, width, depth = x.shape
        stride_h, stride_w, taps_h, taps_w, padding, activation = node.options
        rows, top = axis(height, taps_h, stride_h, 1, padding)
        columns, left = axis(width, taps_w, stride_w, 1, padding)
        if y.shape != (1, rows, columns, depth):
            raise PackError("a pooling of the graph has shapes that do not fit")
        low, high = activation_range(activation, y)
        self.params = array(
            "i",
            (
                x.place,
                y.place,
                height,
                width,
                depth,
                rows,
                columns,
                taps_h,
                taps_w,
                stride_h,
                stride_w,
                top,
                left,
                low,
                high,
                node.code == 17,
            ),
        )

    def prepare(self, node, plan, buffers):
        pass

    def run(self, buffers):
        arena = buffers.arena
        pool(0, arena, arena, self.params)


@micropython.viper
def pool(s: int, a: ptr8, arena: ptr8, p: ptr32):  # noqa: PLR0912, PLR0915 (as conv)
    """Mean, halves away from zero, or maximum of the taps inside the image. s and a as in conv."""
    x = ptr8(uint(arena) + p[0])
    out = ptr8(uint(arena) + p[1])
    depth = p[4]
    low = p[13]
    high = p[14]
    maximum = p[15]
    row_bytes = p[3] * depth
    oy = 0
    while oy < p[5]:
        y0 = oy * p[9] - p[11]
        taps_h = p[7]
        if y0 + taps_h > p[2]:
            taps_h = p[2] - y0
        if y0 < 0:
            taps_h += y0
            y0 = 0
        ox = 0
        while ox < p[6]:
            x0 = ox * p[10] - p[12]
            taps_w = p[8]
            if x0 + taps_w > p[3]:
                taps_w = p[3] - x0
            if x0 < 0:
                taps_w += x0
                x0 = 0
            taps = taps_h * taps_w
            half = taps >> 1
            c = 0
            while c < depth:
                row = ptr8(uint(x) + (y0 * row_bytes + x0 * depth + c))
                s = 0
                i = taps_h
                while i:
                    a = row
                    j = taps_w
                    if maximum:
                        while j:
                            if s < a[0]:
                                s = a[0]
                            a = ptr8(uint(a) + depth)
                            j -= 1
                    else:
                        while j:
                            s = a[0] + s
                            a = ptr8(uint(a) + depth)
                            j -= 1
                    row = ptr8(uint(row) + row_bytes)
                    i -= 1
                if not maximum:
                    s -= taps << 7
                    if s > 0:  # noqa: SIM108 (viper)
                        s = (s + half) // taps + 128
                    else:
                        s = 128 - (half - s) // taps
                if s < low:
                    s = low
                if s > high:
                    s = high
                out[0] = s
                out = ptr8(uint(out) + 1)
                c += 1
            ox += 1
        oy += 1
