"""CONV_2D and FULLY_CONNECTED: output channels in groups, in the form that suits their weights."""

from ..errors import PackError
from ..quant import activation_range
from . import forms
from .channels import Rows, check, overlap, weight_zero
from .checks import axis, image


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
    gathers = taps != (1, 1)
    window = rows, columns, width, depth, (taps[0] - 1) * dilations[0] + 1, steps[0]
    space = forms.Space(window, taps[1], channels, terms, gathers, overlap(x, y), x.zero_point == -128)
    space.pixels = space.pixels and not dense and dilations[1] == 1
    space.room = yield space.least()
    zero = weight_zero(op, 1 if dense else 6)
    lines = Rows(op, out, terms, 16 + space.length, dense)
    form = forms.choose(space, lines, zero)
    out.kernel = form.kernel
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
        space.length,
        form.batch,
        (not (depth & 7 or x.place & 1)) | gathers << 1 | form.lists,
        dense,
        form.zero,
        form.tile,
        form.size,
        form.tile_bytes,
        form.skipped,
    )
    lines.weights.rewind()
    form.write(out, lines)
