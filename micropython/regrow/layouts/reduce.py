"""MEAN and SUM over some axes."""

from micropython import const

from ..errors import PackError
from ..quant import quantize_multiplier, split
from .checks import single
from .strides import advances, merged, strides

_MEAN = const(40)
_KIND = const(3)  # of 6 axes, those that are summed and those that are kept can take turns so often
_TERMS = const(0x400000)  # so that sums stay within 30 bits
_SATURATED = const(25)  # shifted left by more, all but 0 is out of range


def lay(op, out):
    """The axes follow the other parameters: first those that are summed."""
    x, y = single(op)
    chosen = list(op.options[1:])
    if op.options[:1] != bytes([len(chosen)]) or not all(axis < len(x.shape) for axis in chosen):
        raise PackError(f"a MEAN or SUM of the graph has the axes {chosen} for an input of shape {x.shape}")
    axes = list(enumerate(zip(x.shape, strides(x.shape))))
    summed = merged([axis for i, axis in axes if i in chosen])
    kept = merged([axis for i, axis in axes if i not in chosen])
    terms = 1
    for count, _ in summed:
        terms *= count
    if terms * y.count != x.count or terms > _TERMS:
        raise PackError(f"a MEAN or SUM of the graph adds {terms} values to give {y.count} of {x.count}")
    m, shift = quantize_multiplier(split(x.scale), split(y.scale))
    if op.code == _MEAN:
        m, shift = _divided(m, shift, terms)
    yield 0
    out.params(
        x.place,
        y.place,
        terms * (x.zero_point + 128),
        y.zero_point + 128,
        m >> 16,
        m & 0xFFFF,
        min(shift, _SATURATED) + 31,
        *advances(summed + [[1, 0]] * (_KIND - len(summed)) + kept, 1),
    )


def _divided(m, shift, count):
    """The multiplier over the count, kept at its precision by the largest power of 2 within the count."""
    bits = 0
    while count >> bits > 1 and bits < 31 + shift:
        bits += 1
    return (m << bits) // count, shift - bits
