"""Where the windows of convolution and pooling lie."""

from ..errors import PackError


def axis(size, taps, stride, dilation, padding):
    """(windows, values missing before the first) along an axis of `size`; padding 0 is SAME, 1 VALID."""
    if not (taps and stride and dilation) or padding > 1:
        raise PackError("an op of the graph has a filter, stride or dilation of 0, or an unknown padding")
    reach = (taps - 1) * dilation + 1
    if padding:
        return max(0, (size - reach + stride) // stride), 0
    count = (size + stride - 1) // stride
    return count, max(0, (count - 1) * stride + reach - size) // 2
