"""DEPTHWISE_CONV_2D: over a window of padded image rows, so that input and output may share their place."""

from array import array

import micropython
from micropython import const

from ..errors import PackError
from ..quant import activation_range, wide
from .channels import SLACK, TERMS, check, make_table, sum_levels, unsign
from .window import axis

_WIDE = const(32)
_BIAS = const(0x20000000)


def build(node, plan):
    return Depthwise(node, plan)


class Depthwise:
    """One op. Its weights, one tile, are grown and put in the order of the channels once per run."""

    def __init__(self, node, plan):
        x, weights, _, y = check(node, 6)
        if len(x.shape) != 4 or len(weights.shape) != 4 or x.shape[0] != 1 or weights.shape[0] != 1:
            raise PackError(
                "a depthwise convolution of the graph has a tensor of another rank than 4, or a batch"
            )
        _, height, width, depth = x.shape
        _, taps_h, taps_w, channels = weights.shape
        stride_h, stride_w, dilation_h, dilation_w, padding, activation = node.options
        rows, top = axis(height, taps_h, stride_h, dilation_h, padding)
        columns, left = axis(width, taps_w, stride_w, dilation_w, padding)
        if y.shape != (1, rows, columns, channels) or channels % depth:
            raise PackError("a depthwise convolution of the graph has shapes that do not fit")
        self.taps = taps_h * taps_w
        if self.taps > TERMS:
            raise PackError(f"a depthwise convolution of the graph has {self.taps} taps, over {TERMS}")
        low, high = activation_range(activation, y)
        window_rows = (taps_h - 1) * dilation_h + 1
        window_columns = (columns - 1) * stride_w + (taps_w - 1) * dilation_w + 1
        window = window_rows * window_columns * depth
        self.weights = plan.weights(weights)
        self.channels = channels
        plan.need(weights.count + SLACK, weights.count + window, channels)
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
                channels,
                taps_h,
                taps_w,
                stride_h,
                stride_w,
                dilation_h,
                dilation_w,
                top,
                left,
                x.zero_point + 128,
                low,
                high,
                y.zero_point + 128,
                window_rows,
                window_columns,
                weights.count,
            ),
        )

    def prepare(self, node, plan, buffers):
        """Sum the weights and compute the table of the channels."""
        self.tile = memoryview(buffers.tile)[: self.taps * self.channels]
        self._grow()
        sums = array("i", bytes(4 * self.channels))
        for channel in range(self.channels):
            sums[channel] = sum_levels(self.tile, channel, self.channels, self.taps)
        self.table = make_table(node, self.weights, sums, plan)

    def run(self, buffers):
        self._grow()
        transpose(self.tile, buffers.scratch, self.taps, self.channels)
        arena = buffers.arena
        depthwise(0, arena, arena, buffers.scratch, self.table, self.params)

    def _grow(self):
        self.weights.rewind()
        self.weights.read_levels(self.tile)
        unsign(self.tile, len(self.tile))


@micropython.viper
def transpose(source: ptr8, out: ptr8, taps: int, channels: int):
    """Weights by tap and channel to weights by channel and tap."""
    channel = 0
    while channel < channels:
        s = ptr8(uint(source) + channel)
        i = taps
        while i:
            out[0] = s[0]
            out = ptr8(uint(out) + 1)
            s = ptr8(uint(s) + channels)
            i -= 1
        channel += 1


@micropython.viper
def depthwise(  # noqa: PLR0912, PLR0915 (a call per part would cost more than its work)
    s: int, a: ptr8, arena: ptr8, scratch: ptr8, table: ptr32, p: ptr32
):
    """The whole op; scratch holds the weights by channel, then the window. s and a as in conv."""
    x = ptr8(uint(arena) + p[0])
    out = ptr8(uint(arena) + p[1])
    height = p[2]
    depth = p[4]
    channels = p[7]
    taps_h = p[8]
    taps_w = p[9]
    stride_h = p[10]
    zero = p[16]
    low = p[17]
    high = p[18]
    out_zero = p[19]
    rows = p[20]
    skip = 1
    if low != out_zero:
        skip = -0x20000000
    window = ptr8(uint(scratch) + p[22])
    row_bytes = p[21] * depth
    left = p[15] * depth
    used = row_bytes - left
    if used > p[3] * depth:
        used = p[3] * depth
    step = p[13] * depth
    next_row = p[12] * row_bytes - taps_w * step
    extra = ptr32(uint(table) + 12 * channels)
    multiplier = channels // depth
    i = 0
    while i < rows * row_bytes:
        window[i] = zero
        i += 1
    kept = 0
    iy = 0 - p[14]
    oy = 0
    while oy < p[5]:
        # rows kept move up, the others come from the image
        target = window
        a = ptr8(uint(window) + (rows - kept) * row_bytes)
        i = kept * row_bytes
        while i:
            target[0] = a[0]
            target = ptr8(uint(target) + 1)
            a = ptr8(uint(a) + 1)
            i -= 1
        row = kept
        while row < rows:
            target = ptr8(uint(window) + (row * row_bytes + left))
            i = used
            if iy < 0:
                i = 0
            if iy >= height:
                while i:
                    target[0] = zero
                    target = ptr8(uint(target) + 1)
                    i -= 1
            if i:
                a = ptr8(uint(x) + iy * p[3] * depth)
                while i:
                    target[0] = a[0]
                    target = ptr8(uint(target) + 1)
                    a = ptr8(uint(a) + 1)
                    i -= 1
            iy += 1
            row += 1
        ox = 0
        while ox < p[6]:
            start = ptr8(uint(window) + ox * p[11] * depth)
            w = scratch
            t = table
            c = 0
            again = multiplier
            while c < channels:
                a = start
                s = t[0] - _BIAS
                ky = taps_h
                while ky:
                    if taps_w == 3:
                        s = (w[0] - 128) * a[0] + s
                        a = ptr8(uint(a) + step)
                        s = (w[1] - 128) * a[0] + s
                        a = ptr8(uint(a) + step)
                        s = (w[2] - 128) * a[0] + s
                        a = ptr8(uint(a) + step)
                        w = ptr8(uint(w) + 3)
                    else:
                        i = taps_w
                        while i:
                            s = (w[0] - 128) * a[0] + s
                            a = ptr8(uint(a) + step)
                            w = ptr8(uint(w) + 1)
                            i -= 1
                    a = ptr8(uint(a) + next_row)
                    ky -= 1
                right = t[2]
                if right < _WIDE:
                    if s < skip:
                        y = low
                    else:
                        high_bits = s >> 15
                        low_bits = s & 0x7FFF
                        m_high = t[1] >> 16
                        m_low = t[1] & 0xFFFF
                        y = (
                            ((((low_bits * m_low) >> 15) + high_bits * m_low) >> 1)
                            + low_bits * m_high
                            + 0x4000
                        ) >> 15
                        y += high_bits * m_high
                        if right:
                            y = (y + (1 << (right - 1)) + (y >> 31)) >> right
                        y += out_zero
                else:
                    e = ptr32(uint(extra) + 24 * (right - _WIDE))
                    y = int(wide(s, e[0], e[1], e[2], e[3], e[4], e[5])) + out_zero
                if y < low:
                    y = low
                if y > high:
                    y = high
                out[c] = y
                t = ptr32(uint(t) + 12)
                c += 1
                again -= 1
                if again == 0:
                    again = multiplier
                    start = ptr8(uint(start) + 1)
            out = ptr8(uint(out) + channels)
            ox += 1
        kept = rows - stride_h
        if kept < 0:
            iy += 0 - kept
            kept = 0
        oy += 1
