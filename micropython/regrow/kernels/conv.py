"""CONV_2D and FULLY_CONNECTED: sums over columns, for a tile of output channels at a time."""

from array import array

import micropython
from micropython import const

from ..errors import PackError
from ..quant import activation_range, wide
from .channels import SLACK, TERMS, check, make_table, sum_levels, unsign
from .window import axis

_TILE = const(4096)
_WIDE = const(32)
_BIAS = const(0x20000000)


def build(node, plan):
    return Conv(node, plan)


class Conv:
    """One op. Its weights are grown once per run, a tile of output channels for all positions."""

    def __init__(self, node, plan):
        dense = node.code == 9
        x, weights, _, y = check(node, 1 if dense else 6)
        if dense:
            if len(weights.shape) != 2:
                raise PackError(f"a FULLY_CONNECTED of the graph has weights of rank {len(weights.shape)}")
            channels, terms = weights.shape
            batch = x.count // terms
            fits = x.count % terms == 0 and y.count == batch * channels and y.shape[-1:] == (channels,)
            image = height, width, depth = 1, batch, terms
            kernel = 1, 1
            rows, columns = 1, batch
            steps = dilations = 1, 1
            before = 0, 0
            activation = node.options[0]
        else:
            image, kernel, depth, channels, steps, dilations, before, fits = _windows(node, x, weights, y)
            height, width = image
            rows, columns = y.shape[1:3]
            terms = kernel[0] * kernel[1] * depth
            activation = node.options[5]
        if not fits:
            raise PackError("a convolution or FULLY_CONNECTED of the graph has shapes that do not fit")
        if terms > TERMS:
            raise PackError(f"an op of the graph has {terms} weights per channel, over the limit of {TERMS}")
        low, high = activation_range(activation, y)
        gather = kernel != (1, 1)
        aligned = not (depth & 7 or x.place & 1)
        column = (terms + 7) & -8 if gather else terms
        self.weights = plan.weights(weights)
        self.channels = channels
        self.terms = terms
        self.rows = min(channels, max(1, _TILE // terms))
        plan.need(self.rows * terms + SLACK, column + SLACK if gather else 0, channels)
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
                kernel[0],
                kernel[1],
                steps[0],
                steps[1],
                dilations[0],
                dilations[1],
                before[0],
                before[1],
                x.zero_point + 128,
                low,
                high,
                y.zero_point + 128,
                terms,
                column,
                gather,
                aligned,
                dense,
            ),
        )

    def prepare(self, node, plan, buffers):
        """Sum the weights and compute the table of the channels."""
        terms = self.terms
        view = memoryview(buffers.tile)
        self.tile = view[: self.rows * terms]
        self.rest = view[: self.channels % self.rows * terms]
        sums = array("i", bytes(4 * self.channels))
        self.weights.rewind()
        for first in range(0, self.channels, self.rows):
            tile = self._grow(first)
            for row in range(len(tile) // terms):
                sums[first + row] = sum_levels(tile, row * terms, 1, terms)
        self.table = make_table(node, self.weights, sums, plan, self.params[24])

    def run(self, buffers):
        self.weights.rewind()
        arena = buffers.arena
        first = 0
        while first < self.channels:
            tile = self._grow(first)
            count = len(tile) // self.terms
            conv(0, arena, arena, tile, self.table, self.params, buffers.scratch, first, count)
            first += count

    def _grow(self, first):
        """The weights from channel `first` on, as level + 128."""
        tile = self.tile if self.channels - first >= self.rows else self.rest
        self.weights.read_levels(tile)
        unsign(tile, len(tile))
        return tile


def _windows(node, x, weights, y):
    if len(x.shape) != 4 or len(weights.shape) != 4 or len(y.shape) != 4 or x.shape[0] != 1:
        raise PackError("a convolution of the graph has a tensor of another rank than 4, or a batch")
    _, height, width, depth = x.shape
    channels, kernel_h, kernel_w, inner = weights.shape
    stride_h, stride_w, dilation_h, dilation_w, padding, _ = node.options
    rows, top = axis(height, kernel_h, stride_h, dilation_h, padding)
    columns, left = axis(width, kernel_w, stride_w, dilation_w, padding)
    fits = inner == depth and y.shape == (1, rows, columns, channels)
    return (
        (height, width),
        (kernel_h, kernel_w),
        depth,
        channels,
        (stride_h, stride_w),
        (dilation_h, dilation_w),
        (top, left),
        fits,
    )


@micropython.viper
def conv(  # noqa: PLR0912, PLR0915 (a call per part would cost more than its work)
    s: int, a: ptr8, arena: ptr8, tile: ptr8, table: ptr32, p: ptr32, column: ptr8, first: int, count: int
):
    """Outputs of the `count` channels from `first` on, at every position.

    With inputs a and weights w as level + 128 and the input's zero point z: the sum of (a - z) * (w - 128) is
    the sum of a * w, less 128 * the sum of a, less z * the sum of (w - 128), which the table's bias has in
    it. s and a come first because viper keeps two variables in registers; callers give 0 and the arena.
    """
    x = ptr8(uint(arena) + p[0])
    out = ptr8(uint(arena) + (p[1] + first))
    height = p[2]
    width = p[3]
    depth = p[4]
    channels = p[7]
    taps_h = p[8]
    taps_w = p[9]
    zero = p[16]
    low = p[17]
    high = p[18]
    out_zero = p[19]
    length = p[21]
    gather = p[22]
    aligned = p[23]
    # FULLY_CONNECTED rounds once, halves upward; the others round the product, and the shift away from zero
    nudge = 0x4000
    away = -1
    if p[24]:
        nudge = 0
        away = 0
    skip = 1
    if low != out_zero:
        skip = -0x20000000
    blocks = length >> 3
    rest = length & 7
    back = length - p[20]
    extra = ptr32(uint(table) + 12 * channels)
    table = ptr32(uint(table) + 12 * first)
    # all taps of a window's row lie side by side, unless they are dilated
    span = taps_w
    if p[13] > 1:
        span = 1
    i = p[20]
    if gather:
        while i < length:
            column[i] = 0
            i += 1
    oy = 0
    while oy < p[5]:
        ox = 0
        while ox < p[6]:
            start = ptr8(uint(x) + (oy * p[10] * width + ox * p[11]) * depth)
            if gather:
                start = column
                a = column
                ky = 0
                iy = oy * p[10] - p[14]
                while ky < taps_h:
                    kx = 0
                    ix = ox * p[11] - p[15]
                    while kx < taps_w:
                        # taps before, inside and behind the image's row
                        before = 0
                        inside = span
                        if ix < 0:
                            before = 0 - ix
                            if before > span:
                                before = span
                            inside = span - before
                        if ix + span > width:
                            inside = width - ix - before
                            if inside < 0:
                                inside = 0
                        if iy < 0:
                            inside = 0
                            before = span
                        if iy >= height:
                            inside = 0
                            before = span
                        i = before * depth
                        while i:
                            a[0] = zero
                            a = ptr8(uint(a) + 1)
                            i -= 1
                        if inside:
                            i = inside * depth
                            source = ptr8(uint(x) + ((iy * width + ix + before) * depth))
                            if aligned:
                                halves = ptr16(a)
                                source_halves = ptr16(source)
                                a = ptr8(uint(a) + i)
                                while i:
                                    halves[0] = source_halves[0]
                                    halves[1] = source_halves[1]
                                    halves[2] = source_halves[2]
                                    halves[3] = source_halves[3]
                                    halves = ptr16(uint(halves) + 8)
                                    source_halves = ptr16(uint(source_halves) + 8)
                                    i -= 8
                            while i:
                                a[0] = source[0]
                                a = ptr8(uint(a) + 1)
                                source = ptr8(uint(source) + 1)
                                i -= 1
                        i = (span - before - inside) * depth
                        while i:
                            a[0] = zero
                            a = ptr8(uint(a) + 1)
                            i -= 1
                        kx += span
                        ix += p[13]
                    ky += 1
                    iy += p[12]
            a = start
            s = 0
            i = blocks
            while i:
                s = a[0] + s
                s = a[1] + s
                s = a[2] + s
                s = a[3] + s
                s = a[4] + s
                s = a[5] + s
                s = a[6] + s
                s = a[7] + s
                a = ptr8(uint(a) + 8)
                i -= 1
            i = rest
            while i:
                s = a[0] + s
                a = ptr8(uint(a) + 1)
                i -= 1
            offset = (s << 7) + _BIAS
            w = tile
            t = table
            c = 0
            while c < count:
                a = start
                s = t[0] - offset
                i = blocks
                while i:
                    s = w[0] * a[0] + s
                    s = w[1] * a[1] + s
                    s = w[2] * a[2] + s
                    s = w[3] * a[3] + s
                    s = w[4] * a[4] + s
                    s = w[5] * a[5] + s
                    s = w[6] * a[6] + s
                    s = w[7] * a[7] + s
                    a = ptr8(uint(a) + 8)
                    w = ptr8(uint(w) + 8)
                    i -= 1
                i = rest
                while i:
                    s = w[0] * a[0] + s
                    a = ptr8(uint(a) + 1)
                    w = ptr8(uint(w) + 1)
                    i -= 1
                w = ptr8(uint(w) - back)
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
                            + nudge
                        ) >> 15
                        y += high_bits * m_high
                        if right:
                            y = (y + (1 << (right - 1)) + ((y >> 31) & away)) >> right
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
            out = ptr8(uint(out) + channels)
            ox += 1
        oy += 1
