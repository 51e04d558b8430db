"""DEPTHWISE_CONV_2D: a row per channel."""

from ..errors import PackError
from ..quant import activation_range
from .channels import HEAD, TILE, Rows, check, overlap, unsign, weight_zero
from .checks import axis, image

_ROWS = 32  # of an image in RAM at one time, before more channels


def lay(op, out):
    x, weights, _, y = check(op, 6)
    height, width, depth = image(x)
    taps_h, taps_w, channels = image(weights)
    stride_h, stride_w, dilation_h, dilation_w, padding, activation = op.options[:6]
    rows, top = axis(height, taps_h, stride_h, dilation_h, padding)
    columns, left = axis(width, taps_w, stride_w, dilation_w, padding)
    if y.shape != (1, rows, columns, channels) or channels % depth:
        raise PackError("a depthwise convolution of the graph has shapes that do not fit")
    low, high = activation_range(activation, y)
    taps = taps_h * taps_w
    size = HEAD + ((taps + 3) & -4)
    multiplier = channels // depth
    window_columns = (columns - 1) * stride_w + (taps_w - 1) * dilation_w + 1
    window_rows = (taps_h - 1) * dilation_h + 1
    # bytes that one channel of the input, with the channels made of it, takes in the tile and in the window
    step = multiplier * size
    window = window_rows * window_columns
    together = overlap(x, y) and not (x.place == y.place and x.shape == y.shape)
    tile = depth if together else min(depth, max(1, TILE // (step + window)))
    room = yield tile * (step + window)
    if not together:
        tile = min(depth, max(tile, (room - _ROWS * window_columns) // step))
    windows = tile if together else 1
    whole = (rows - 1) * stride_h + window_rows
    window_rows = min(whole, (room - tile * step) // windows // window_columns)
    out.params(
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
        multiplier,
        weight_zero(op, 6),
        tile,
        size,
        tile * step,
        together,
    )
    _write(Rows(op, out, taps, size), channels, taps)


def _write(lines, channels, taps):
    """The rows, from weights that come by tap: as many channels at a time as fit in a tile."""
    line = bytearray(channels)
    most = min(channels, max(1, TILE // taps))
    tile = bytearray(most * taps)
    first = 0
    while first < channels:
        lines.weights.rewind()
        count = min(most, channels - first)
        for tap in range(taps):
            lines.weights.read_levels(line)
            for channel in range(count):
                tile[channel * taps + tap] = line[first + channel]
        for channel in range(count):
            lines.levels[:] = tile[channel * taps : (channel + 1) * taps]
            unsign(lines.levels, taps)
            lines.write(first + channel)
        first += count
