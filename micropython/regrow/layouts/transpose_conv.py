"""TRANSPOSE_CONV: a row per output channel."""

from ..errors import PackError
from ..quant import activation_range
from .channels import HEAD, TILE, Rows, check, weight_zero
from .checks import axis, image


def lay(op, out):
    """Where the windows lie on the output, there is one for each value of the input."""
    op.options = op.options[:2] + b"\x01\x01" + op.options[2:]  # as CONV_2D has them
    x, weights, _, y = check(op, 6)
    height, width, depth = image(x)
    rows, columns, channels = image(y)
    stride_h, stride_w, _, _, padding, activation = op.options[:6]
    if len(weights.shape) != 4 or (weights.shape[0], weights.shape[3]) != (channels, depth):
        raise PackError("a TRANSPOSE_CONV of the graph has weights that do not fit")
    taps_h, taps_w = weights.shape[1:3]
    down, top = axis(rows, taps_h, stride_h, 1, padding)
    across, left = axis(columns, taps_w, stride_w, 1, padding)
    if (down, across) != (height, width):
        raise PackError("a TRANSPOSE_CONV of the graph has shapes that do not fit")
    low, high = activation_range(activation, y)
    terms = weights.count // channels
    size = HEAD + ((terms + 3) & -4)
    tile = min(channels, max(1, TILE // size))
    room = yield tile * size
    tile = min(channels, room // size)
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
        top,
        left,
        x.zero_point + 128,
        low,
        high,
        y.zero_point + 128,
        weight_zero(op, 6),
        tile,
        size,
    )
    x.zero_point = -128  # it cannot be in the bias: how many taps meet an output depends on its place
    lines = Rows(op, out, terms, size, wide=True)
    lines.weights.rewind()
    for channel in range(channels):
        lines.read()
        lines.write(channel)
