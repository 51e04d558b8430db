"""What the operators with weights share: the head of each output channel, and its weights as level + 128.

A row is a head of 16 bytes and, behind it, the channel's weights. Head, in words (w) and halves
of them (h), where r is the right shift and the output's zero point is z:

    w0  bias - zero point of the input * sum of the weights, plus 2 * BIAS
    h2, h3, h4  the multiplier's bits 0 to 9, 10 to 19 and 20 to 30: kernels requantize sums of 20 bits
    h5  11 + r: the shift after the multiplication, 20 bits of whose product are dropped before
    w3  what is added before that shift: one half, TFLite's second rounding (see `_finish`), z << h5

Sums of more bits saturate, as r is 10 at most. Channels out of that reach are `wide`: BIAS is in w0 three
times, so that kernels find their sums above all others; h2, h3 are the multiplier's halves, h5 is WIDE +
left shift + 31 and h6, h7 are those of the bias, plus 2**31.
"""

from array import array

import micropython
from micropython import const

from ..errors import PackError
from ..graph import CONSTANT, INT8, INT32, WEIGHTS
from ..quant import BIAS, WIDE, activation_range, product, quantize_multiplier, requantize, rounded, split
from .checks import value

HEAD = const(16)
"""Bytes of a row before the weights."""
TILE = const(4096)
"""Bytes of rows that are in RAM at one time where there is not room for more; one row at least."""

_TERMS = const(16384)  # the most weights of a channel, so that sums stay within 30 bits
_SHIFTS = const(
    10
)  # shifted right by no more, sums of 2**19 saturate; shifted left by no more, halves are whole
_SATURATED = const(25)  # shifted left by more, all but 0 is out of range
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
    return x.place < y.place + y.room and y.place < x.place + x.room


class Rows:
    """The rows of an op with `terms` weights a channel, which `write` makes `size` bytes long, zeros last.

    Multipliers are input scale * weight scale / output scale. `once`: sums are rounded once, for
    FULLY_CONNECTED. `wide`: all rows are.
    """

    def __init__(self, op, out, terms, size, once=False, wide=False):
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
        self._wide = wide
        low, _ = activation_range(op.options[self._options - 1], y)
        # of sums that are rounded twice, a shift left or none would need another rounding below 0
        self._least = -_SHIFTS if once or low == y.zero_point + 128 else 1
        self._bound = 255 * (128 if self._zero == 128 else 255) * terms
        self.weights = out.weights(tensor)
        if not self.weights.scales.common and self.weights.channels != channels:
            raise PackError(f"weights {tensor.place} do not have a scale for each of {channels} channels")
        self._levels = bytearray(size - HEAD)
        self.levels = memoryview(self._levels)[:terms]

    def read(self):
        """Take the weights of the next channel into `levels`, as level + 128."""
        self.weights.read_levels(self.levels)
        unsign(self.levels, len(self.levels))

    def write(self, channel):
        """Write the row of a channel, whose weights are in `levels`."""
        self._out.write(array("i", self.head(channel)))
        self._out.write(self._levels)

    def head(self, channel):
        """The four words of the head of a channel, whose weights are in `levels`; once for each, in order."""
        m, shift = self._multiplier(channel)
        bias = next(self._biases) if self._biases else 0
        if abs(bias) + self._bound >> 31:
            raise PackError("an op of the graph has a bias that overflows its sums")
        folded = -(self._x.zero_point + 128) * (sum(self.levels) - len(self.levels) * self._zero)
        wide = self._wide or not self._reachable(bias, shift)
        if wide and not self._wide and self.levels == bytes([self._zero]) * len(self.levels):
            bias, m, shift = self._alone(requantize(bias, m, shift, self._once))
            wide = False
        if wide:
            shift = WIDE + min(shift, _SATURATED) + 31
            return folded + 3 * BIAS, m, shift << 16, _signed(bias ^ _SIGN)
        digits = m & 0x3FF | (m & 0xFFC00) << 6
        shift, half = self._finish(shift)
        return bias + folded + 2 * BIAS, digits, m >> 20 | shift << 16, half

    def _multiplier(self, channel):
        scales = self.weights.scales
        number = product(self._x.scale, scales.common or scales[channel])
        if self._uint8:
            number = rounded(number)
        return quantize_multiplier(number, split(self._y.scale))

    def _reachable(self, bias, shift):
        """Whether kernels requantize such sums without `wide`."""
        return self._least <= -shift <= _SHIFTS and abs(bias) + self._bound < BIAS

    def _alone(self, y):
        """A reachable bias, multiplier and shift that give y where all weights are 0."""
        y = max(-255, min(255, y))
        return y << 2, 1 << 30, -1

    def _finish(self, shift):
        """(h5, w3) of a shift.

        Where TFLite rounds twice, x = (acc * m + 2**30) >> 31 and then (x + 2**(r - 1) - (x < 0)) >> r, that
        is (acc * m + 2**(r + 30) + 2**30) >> (r + 31) for acc >= 0, with - 2**30 for acc < 0. For r <= 0 it
        rounds once.
        """
        half = 1 << 10 - shift
        if not self._once and shift < 0:
            half += 1 << 10
        return 11 - shift, half + (self._y.zero_point + 128 << 11 - shift)


def _signed(word):
    word &= 0xFFFFFFFF
    return word - ((word & _SIGN) << 1)


@micropython.viper
def unsign(levels: ptr8, count: int):
    """Turn int8 levels into level + 128."""
    while count:
        levels[0] = levels[0] ^ 0x80
        levels = ptr8(uint(levels) + 1)
        count -= 1
