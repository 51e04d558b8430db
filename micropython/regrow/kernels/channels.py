"""What the operators with weights share: levels + 128, and the table of one row per output channel.

A row is three words: bias - zero point * sum of the channel's weights, plus BIAS; multiplier; right shift.
For a channel out of the reach of 30 bits the shift is WIDE + i, and record i behind the rows has what
`quant.wide` takes.
"""

from array import array

import micropython

from ..errors import PackError
from ..graph import CONSTANT, INT8, INT32, WEIGHTS
from ..quant import BIAS, WIDE, product, quantize_multiplier, split

TERMS = 16384
"""The most weights a channel may have, so that sums stay within 30 bits."""
SLACK = 8
"""Bytes behind a tile or column that kernels may read or change."""

_RECORD = 6


def check(node, options):
    """The tensors x, weights, bias (None if absent) and output of an op; PackError unless they are int8."""
    if not 2 <= len(node.inputs) <= 3 or len(node.outputs) != 1 or len(node.options) != options:
        raise PackError(f"an op of the graph has {len(node.inputs)} inputs and {len(node.options)} options")
    x, weights = node.inputs[:2]
    bias = node.inputs[2] if len(node.inputs) == 3 else None
    y = node.outputs[0]
    if not x or x.kind == WEIGHTS or not weights or weights.kind != WEIGHTS:
        raise PackError("an op of the graph lacks its input or its weights")
    if x.dtype or weights.dtype or y.dtype != INT8:
        raise PackError("an op of the graph has weights and values of other types than int8")
    if bias and (bias.kind != CONSTANT or bias.dtype != INT32):
        raise PackError("an op of the graph has a bias that is no int32 constant")
    return x, weights, bias, y


def make_table(node, weights, sums, plan, once=False):
    """The table of an op; `sums` holds per channel the sum of its weights and is used up.

    Multipliers are input scale * weight scale / output scale; `once` tells that sums are rounded once.
    """
    x, tensor, bias, y = node.inputs[0], node.inputs[1], node.inputs[2:], node.outputs[0]
    channels = len(sums)
    biases = array("i", bytes(4 * channels))
    if bias and bias[0]:
        if bias[0].count != channels:
            raise PackError(f"an op of the graph has {bias[0].count} biases for {channels} channels")
        plan.read(bias[0], biases)
    bound = 255 * 128 * (tensor.count // channels)
    divisor = split(y.scale)
    rows = array("i", bytes(12 * channels))
    wide = []
    scale = None
    for channel in range(channels):
        if scale is None or not weights.scales.common:
            scale = weights.scales[channel]
            m, shift = quantize_multiplier(product(x.scale, scale), divisor)
        folded = -(x.zero_point + 128) * sums[channel]
        whole = biases[channel]
        right = -shift
        if shift > 0 or (once and not shift) or abs(whole) + bound >= BIAS:
            if abs(whole) + bound >> 31:
                raise PackError("an op of the graph has a bias that overflows its sums")
            whole_high, whole_low = (whole >> 16) + 0x8000, whole & 0xFFFF
            right = WIDE + len(wide) // _RECORD
            wide += (whole_high, whole_low, m >> 16, m & 0xFFFF, shift + 31, once)
            whole = 0
        row = 3 * channel
        rows[row] = whole + folded + BIAS
        rows[row + 1] = m
        rows[row + 2] = right
    rows.extend(array("i", wide))
    return rows


@micropython.viper
def unsign(levels: ptr8, count: int):
    """Turn int8 levels into level + 128, to the next multiple of 8."""
    pairs = ptr16(levels)
    while count > 0:
        pairs[0] = pairs[0] ^ 0x8080
        pairs[1] = pairs[1] ^ 0x8080
        pairs[2] = pairs[2] ^ 0x8080
        pairs[3] = pairs[3] ^ 0x8080
        pairs = ptr16(uint(pairs) + 8)
        count -= 8


@micropython.viper
def sum_levels(values: ptr8, start: int, step: int, count: int) -> int:
    """The sum of `count` levels, given as level + 128, every `step` bytes from `start`."""
    total = 0
    while count:
        total += values[start] - 128
        start += step
        count -= 1
    return total
