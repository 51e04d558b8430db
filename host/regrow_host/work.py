"""What the board's kernels need while they run (micropython/regrow/layouts): bytes to work in, and how far an
output may run into its input's place."""

from __future__ import annotations

import numpy as np
from regrow.graph import CONSTANT, Node, Tensor
from regrow.kernels.window import Axis, axes

from .tflite import OPERATOR_CODES

TILE = 4096  # bytes of rows that are in RAM at one time where there is not room for more; one row at least
HEAD = 16  # bytes of a row before its weights
ONCE_TILE = 6144  # the same of a layer with one position, whose weights serve once
GROUP = 8  # channels that a convolution takes together
LARGEST_GROUP = 12288  # bytes of a group; channels are taken one by one where it would be larger
SHALLOW, ROW = 8, 4095  # channels, and values of a row, of an image whose pixels are listed
LONGEST_LIST = 8191  # inputs of a position that are not zero, which are listed where inputs are often zero
BATCH = 640  # bytes of the positions that a convolution takes together; one position at least
AXES = 96
TABLES = 2048
STAIRS = 2048
COPY = 112
LOOKUP_TABLE = 256
SOFTMAX_TABLE = 1024

LOOKUP = 255
CONV_2D = OPERATOR_CODES["CONV_2D"]
DEPTHWISE_CONV_2D = OPERATOR_CODES["DEPTHWISE_CONV_2D"]
FULLY_CONNECTED = OPERATOR_CODES["FULLY_CONNECTED"]
TRANSPOSE_CONV = OPERATOR_CODES["TRANSPOSE_CONV"]
MUL = OPERATOR_CODES["MUL"]
RESIZE = OPERATOR_CODES["RESIZE_NEAREST_NEIGHBOR"]
SOFTMAX = OPERATOR_CODES["SOFTMAX"]
POOLS = {OPERATOR_CODES[name] for name in ("AVERAGE_POOL_2D", "MAX_POOL_2D")}
ADD = OPERATOR_CODES["ADD"]
SUMS = {ADD, OPERATOR_CODES["SUB"]}
MOVEMENTS = {OPERATOR_CODES[name] for name in ("CONCATENATION", "PAD", "TRANSPOSE", "STRIDED_SLICE")}


def work(code: int, node: Node, shared: bool = False) -> int:
    """The bytes that the op needs at least; `shared`: its output runs into its input's place."""
    if code in (CONV_2D, FULLY_CONNECTED):
        return _groups(code, node, shared)
    if code == TRANSPOSE_CONV:
        return _transposed(node)
    if code == DEPTHWISE_CONV_2D:
        depth, channel = _image(node).shape[3], _channel(node)
        return (depth if shared else min(depth, max(1, TILE // channel))) * channel
    return _small(code, node)


def lag(code: int, node: Node) -> int | None:
    """How many bytes the output must begin before the input so that it may run into the input's place.

    Kernels write outputs row by row and read no row of the input above the window of the row they write;
    a depthwise convolution copies that window first. Negative where the output may begin behind the input's
    start; None for an op that permits no other place than apart from its input.
    """
    if code not in (CONV_2D, DEPTHWISE_CONV_2D, *POOLS):
        return None
    y, output = rows(code, node), node.outputs[0]
    row, image_row = output.nbytes // y.count, _image(node).nbytes // y.given
    ahead = y.reach if code == DEPTHWISE_CONV_2D else 0
    needed = [max(0, each * y.stride - y.padding[0] + ahead) for each in range(y.count)]
    return max(
        ((each + 1) * row - need * image_row for each, need in enumerate(needed) if need < y.given),
        default=-_image(node).nbytes,
    )


def _small(code: int, node: Node) -> int:
    """Bytes of tables and constants."""
    if code == ADD and alike(node):
        return TABLES + STAIRS
    if code in (*SUMS, MUL):
        return -(-(AXES + _constant(node)) // 8) * 8 + (TABLES if code in SUMS else 0)
    if code in MOVEMENTS:
        return COPY + _constant(node)
    if code == RESIZE:
        return 4 * sum(node.outputs[0].shape[1:3])
    return {LOOKUP: LOOKUP_TABLE, SOFTMAX: SOFTMAX_TABLE}.get(code, 0)


def alike(node: Node) -> bool:
    """Whether all inputs are activations of the output's shape."""
    return all(x and x.kind != CONSTANT and x.shape == node.outputs[0].shape for x in node.inputs)


def _transposed(node: Node) -> int:
    """Bytes of the rows of channels in a tile."""
    weights = _weights(node)
    row = HEAD + -(-weights.size // weights.shape[0] // 4) * 4
    return min(weights.shape[0], max(1, TILE // row)) * row


def _groups(code: int, node: Node, shared: bool) -> int:
    """Bytes of the groups of channels in a tile, and of the positions taken together: column and sums."""
    channels = _weights(node).shape[0]
    length, column = _column(code, node)
    width = GROUP if GROUP * (HEAD + length) <= LARGEST_GROUP else 1
    size = width * HEAD + -(-width * length // 4) * 4
    groups = -(-channels // width)
    positions = node.outputs[0].size // channels
    tile = groups if shared else min(groups, max(1, (TILE if positions > 1 else ONCE_TILE) // size))
    position = column + 4 + 4 * width * tile
    lists = width > 1 and channels > GROUP and length <= LONGEST_LIST and _zero(_image(node)) == -128
    if lists and positions > 1 and _is_listed(code, node):
        needed = _pixels(node, groups, length, shared)
        if needed <= LARGEST_GROUP:
            return needed
    listed = 4 * (length + 3) if lists else 0
    return tile * size + max(1, min(positions, BATCH // position)) * position + listed


def _pixels(node: Node, groups: int, length: int, shared: bool) -> int:
    """Bytes of groups of channels, and of the lists and sums of a row of outputs."""
    y, x = _windows(node)
    depth = _image(node).shape[3]
    eights, lanes = (GROUP * (HEAD + length // pack) for pack in (1, 2))
    tiles = (groups, groups) if shared else (1, min(groups, max(1, TILE // lanes)))
    line = 8 * x.given + 8 + -(-3 * x.given * depth // 4) * 4
    sums = [x.count * (4 + 4 * GROUP * tile) for tile in tiles]
    unpacked = 2 * GROUP * x.size * depth
    return y.reach * line + max(tiles[0] * eights + sums[0], tiles[1] * lanes + sums[1] + unpacked)


def _is_listed(code: int, node: Node) -> bool:
    """Whether the pixels of the image are listed."""
    if code != CONV_2D or node.options[3] > 1 or _weights(node).shape[1:3] == (1, 1):
        return False
    _, _, width, depth = _image(node).shape
    return depth >= SHALLOW and width * depth <= ROW


def _zero(x: Tensor) -> int:
    """The zero point as int8 has it."""
    return x.zero_point - 128 * (x.dtype == np.uint8)


def _column(code: int, node: Node) -> tuple[int, int]:
    """Values that a channel's weights meet at a position, and bytes of the column where they are gathered."""
    weights = _weights(node)
    terms = weights.size // weights.shape[0]
    gathers = code == CONV_2D and weights.shape[1:3] != (1, 1)
    length = -(-terms // 4) * 4 if gathers else terms
    return length, length if gathers else 0


def _channel(node: Node) -> int:
    """Bytes of the rows of one input channel of a depthwise convolution and of its window of the image."""
    _, taps_h, taps_w, channels = _weights(node).shape
    y, x = _windows(node)
    columns = (x.count - 1) * x.stride + x.reach
    return channels // _image(node).shape[3] * (HEAD + -(-taps_h * taps_w // 4) * 4) + y.reach * columns


def rows(code: int, node: Node) -> Axis:
    """The windows down the image."""
    if code not in POOLS:
        return _windows(node)[0]
    stride_h, stride_w, taps_h, taps_w, padding = node.options[:5]
    return axes(_image(node).shape, (taps_h, taps_w), (stride_h, stride_w), (1, 1), padding)[0]


def _windows(node: Node) -> tuple[Axis, Axis]:
    stride_h, stride_w, dilation_h, dilation_w, padding = node.options[:5]
    taps_h, taps_w = _weights(node).shape[1:3]
    return axes(_image(node).shape, (taps_h, taps_w), (stride_h, stride_w), (dilation_h, dilation_w), padding)


def _constant(node: Node) -> int:
    """Bytes of the largest constant among the inputs, up to a multiple of 4."""
    return max((-(-x.nbytes // 4) * 4 for x in node.inputs if x and x.kind == CONSTANT), default=0)


def _image(node: Node) -> Tensor:
    assert node.inputs[0] is not None
    return node.inputs[0]


def _weights(node: Node) -> Tensor:
    assert node.inputs[1] is not None
    return node.inputs[1]
