"""What most operators ask of their tensors, and where the windows of convolution and pooling lie."""

from ..errors import PackError
from ..graph import CONSTANT, INT8, WEIGHTS


def single(op):
    """The one input and the one output of an op, both of 8 bits."""
    if len(op.inputs) != 1 or len(op.outputs) != 1:
        raise PackError(f"an op {op.code} of the graph has {len(op.inputs)} inputs")
    return value(op.inputs[0]), value(op.outputs[0])


def value(tensor):
    """The tensor, which must be of 8 bits and neither weights nor a constant."""
    if operand(tensor).kind == CONSTANT:
        raise PackError("an op of the graph has a constant where it needs a value")
    return tensor


def operand(tensor):
    """The tensor, which must be of 8 bits and no weights."""
    if tensor is None or tensor.kind == WEIGHTS or tensor.dtype != INT8:
        raise PackError("an op of the graph lacks a tensor or has one of another type than int8")
    return tensor


def image(tensor):
    """(height, width, depth) of an image, which must be one alone."""
    if len(tensor.shape) != 4 or tensor.shape[0] != 1:
        raise PackError(f"an op of the graph wants one image and has the shape {tensor.shape}")
    return tensor.shape[1:]


def axis(size, taps, stride, dilation, padding):
    """(windows, values missing before the first) along an axis of `size`; padding 0 is SAME, 1 VALID."""
    if not (taps and stride and dilation) or padding > 1:
        raise PackError("an op of the graph has a filter, stride or dilation of 0, or an unknown padding")
    reach = (taps - 1) * dilation + 1
    if padding:
        return max(0, (size - reach + stride) // stride), 0
    count = (size + stride - 1) // stride
    return count, max(0, (count - 1) * stride + reach - size) // 2
