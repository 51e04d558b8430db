"""AVERAGE_POOL_2D and MAX_POOL_2D."""

from ..errors import PackError
from ..quant import activation_range
from .checks import axis, image, single


def lay(op, out):
    x, y = single(op)
    if len(op.options) not in (6, 7) or image(x) != x.shape[1:] or len(y.shape) != 4:
        raise PackError("a pooling of the graph does not have 6 options")
    if x.scale != y.scale or x.zero_point != y.zero_point:
        raise PackError("a pooling of the graph has an output scale or zero point other than its input's")
    _, height, width, depth = x.shape
    stride_h, stride_w, taps_h, taps_w, padding, activation = op.options[:6]
    rows, top = axis(height, taps_h, stride_h, 1, padding)
    columns, left = axis(width, taps_w, stride_w, 1, padding)
    if y.shape != (1, rows, columns, depth):
        raise PackError("a pooling of the graph has shapes that do not fit")
    low, high = activation_range(activation, y)
    yield 0
    out.params(
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
        op.code == 17,
        op.options[6:] == b"\x01",
    )
