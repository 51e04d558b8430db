"""CONV_2D and FULLY_CONNECTED: a row per output channel."""

from ..errors import PackError
from ..quant import activation_range
from .channels import HEAD, TILE, Rows, check, overlap, unsign, weight_zero
from .checks import image
from .window import axis


def lay(op, out):
    dense = op.code == 9
    x, weights, _, y = check(op, 1 if dense else 6)
    if dense:
        if len(weights.shape) != 2:
            raise PackError(f"a FULLY_CONNECTED of the graph has weights of rank {len(weights.shape)}")
        channels, terms = weights.shape
        rows, columns = 1, x.count // terms
        fits = x.count % terms == 0 and y.count == columns * channels and y.shape[-1:] == (channels,)
        height, width, depth = 1, columns, terms
        taps = steps = dilations = 1, 1
        top = left = 0
        activation = op.options[0]
    else:
        height, width, depth = image(x)
        channels = weights.shape[0]
        taps = weights.shape[1:3]
        terms = weights.count // channels
        steps, dilations = op.options[:2], op.options[2:4]
        padding, activation = op.options[4:6]
        rows, top = axis(height, taps[0], steps[0], dilations[0], padding)
        columns, left = axis(width, taps[1], steps[1], dilations[1], padding)
        fits = weights.shape[3:] == (depth,) and y.shape == (1, rows, columns, channels)
    if not fits:
        raise PackError("a convolution or FULLY_CONNECTED of the graph has shapes that do not fit")
    low, high = activation_range(activation, y)
    gather = taps != (1, 1)
    length = (terms + 7) & -8 if gather else terms
    size = HEAD + ((length + 3) & -4)
    column = length if gather else 0
    tile = channels if overlap(x, y) else min(channels, max(1, TILE // size))
    room = yield tile * size + column
    tile = min(channels, (room - column) // size)
    out.params(
        x.place,
        y.place,
        height,
        width,
        depth,
        rows,
        columns,
        channels,
        taps[0],
        taps[1],
        steps[0],
        steps[1],
        dilations[0],
        dilations[1],
        top,
        left,
        x.zero_point + 128,
        low,
        high,
        y.zero_point + 128,
        terms,
        length,
        gather,
        not (depth & 7 or x.place & 1),
        dense,
        weight_zero(op, 1 if dense else 6),
        tile,
        size,
        tile * size,
    )
    lines = Rows(op, out, terms, size, dense)
    lines.weights.rewind()
    for channel in range(channels):
        lines.weights.read_levels(lines.levels)
        unsign(lines.levels, terms)
        lines.write(channel)
