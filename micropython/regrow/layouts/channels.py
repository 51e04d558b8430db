"""What the operators with weights share: the rows of a record, one per output channel.

A row is four words and, behind them, the channel's weights as level + 128: bias - zero point * sum of the
weights, plus BIAS; multiplier; right shift; 0. For a channel out of the reach of 30 bits the shift is WIDE +
left shift + 31, and the bias stands alone in the fourth word, plus 2**31: `wide` requantizes it.
"""

from array import array

import micropython

from ..errors import PackError
from ..graph import CONSTANT, INT8, INT32, WEIGHTS
from ..quant import BIAS, WIDE, product, quantize_multiplier, rounded, split
from .checks import value

HEAD = 16
"""Bytes of a row before the weights."""
TILE = 4096
"""Bytes of rows that are in RAM at one time where there is not room for more; one row at least."""

_TERMS = 16384  # the most weights of a channel, so that sums stay within 30 bits
_SATURATED = 25  # shifted left by more, all but 0 is out of range
_SIGN = 0x80000000


def check(op, options):
    """The tensors x, weights, bias (None if absent) and output of an op, which must fit the kernels."""
    if not 2 <= len(op.inputs) <= 3 or len(op.outputs) != 1 or not 0 <= len(op.options) - options <= 1:
        raise PackError(f"an op {op.code} of the graph has {len(op.inputs)} inputs and {op.options} options")
    weights = op.inputs[1]
    bias = op.inputs[2] if len(op.inputs) == 3 else None
    if not weights or weights.kind != WEIGHTS or weights.dtype != INT8:
        raise PackError("an op of the graph lacks its weights")
    if bias and (bias.kind != CONSTANT or bias.dtype != INT32):
        raise PackError("an op of the graph has a bias that is no int32 constant")
    return value(op.inputs[0]), weights, bias, value(op.outputs[0])


def weight_zero(op, options):
    """128 + the weights' zero point, which stands behind the options of networks that were uint8."""
    if len(op.options) == options:
        return 128
    return (op.options[options] ^ 0x80) & 0xFF


def overlap(x, y):
    return x.place < y.place + y.size and y.place < x.place + x.size


class Rows:
    """Writes the rows of an op: `terms` weights a channel, in rows of `size` bytes that end with zeros.

    Multipliers are input scale * weight scale / output scale. `once`: sums are rounded once, for
    FULLY_CONNECTED.
    """

    def __init__(self, op, out, terms, size, once=False):
        x, tensor, bias, y = check(op, 1 if once else 6)
        self._options = 1 if once else 6
        self._zero = weight_zero(op, self._options)
        self._uint8 = len(op.options) > self._options and not once
        channels = tensor.count // terms
        if terms > _TERMS >> (self._zero != 128):
            raise PackError(f"an op of the graph has {terms} weights per channel, over the limit of {_TERMS}")
        if bias and bias.count != channels:
            raise PackError(f"an op of the graph has {bias.count} biases for {channels} channels")
        self._x, self._y = x, y
        self._out = out
        self._once = once
        self._biases = out.integers(bias) if bias else None
        self._bound = 255 * (128 if self._zero == 128 else 255) * terms
        self.weights = out.weights(tensor)
        if not self.weights.scales.common and self.weights.channels != channels:
            raise PackError(f"weights {tensor.place} do not have a scale for each of {channels} channels")
        self._levels = bytearray(size - HEAD)
        self.levels = memoryview(self._levels)[:terms]

    def write(self, channel):
        """Write the row of a channel, whose weights are in `levels` as level + 128."""
        m, shift = self._multiplier(channel)
        whole = self._biases[channel] if self._biases else 0
        folded = -(self._x.zero_point + 128) * (sum(self.levels) - len(self.levels) * self._zero)
        right = -shift
        alone = 0
        if shift > 0 or (self._once and not shift) or abs(whole) + self._bound >= BIAS:
            if abs(whole) + self._bound >> 31:
                raise PackError("an op of the graph has a bias that overflows its sums")
            alone = whole - _SIGN if whole >= 0 else whole + _SIGN
            right = WIDE + min(shift, _SATURATED) + 31
            whole = 0
        self._out.write(array("i", (whole + folded + BIAS, m, right, alone)))
        self._out.write(self._levels)

    def _multiplier(self, channel):
        scales = self.weights.scales
        number = product(self._x.scale, scales.common or scales[channel])
        if self._uint8:
            number = rounded(number)
        return quantize_multiplier(number, split(self._y.scale))


@micropython.viper
def unsign(levels: ptr8, count: int):
    """Turn int8 levels into level + 128."""
    while count:
        levels[0] = levels[0] ^ 0x80
        levels = ptr8(uint(levels) + 1)
        count -= 1
