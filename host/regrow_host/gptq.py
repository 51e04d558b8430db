"""Round a layer's weights so that what it computes from calibration samples changes least.

GPTQ: columns are rounded in turn, and those left make up for the errors of those done (Frantar, Ashkboos,
Hoefler and Alistarh, 2022). Each weight takes the level that is best in error and bits, not the nearest one.
What earlier layers changed is made up for as well: the rounded layer is fitted to the outputs of the source's
layer, which had the source's activations.

Shapes: a layer is `channels` rows of k weights. Its rows stand in groups that take the same inputs: a group
is one input channel of a depthwise layer, any other layer is one group.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from regrow_host.tflite import Array, Operator, WeightTensor

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Levels = NDArray[np.int8]

DAMPING = 0.01
RIDGE = 0.1
"""Both in units of the mean square of the inputs."""
WIDE = 0.1
"""The same, at least, for as many inputs as samples: these tell the moments of a wide layer badly."""
SMALLEST, TINY = 1e-6, 1e-30
"""What inputs that hardly vary count as, of the most varying ones and at least."""
BLOCK = 64
PATCH_VALUES = 1 << 23
MOST_PATCHES = 1 << 15
SAME = 0
LARGEST = 127
BIT = 0.4 * math.log(2) / 6
"""What a bit is worth, in squares of the step: less than where errors are noise, step^2 / 12, which falls
fourfold with each (high-rate theory, Gersho and Gray, Vector Quantization and Signal Compression, 1992), as
levels nearer to 0 shrink what a layer gives, and that adds up from layer to layer."""


def patches(x: Floats, operator: Operator, weights: WeightTensor) -> Floats | None:
    """What the rows are multiplied with, (groups, patches, k), at places drawn alike for the same shapes.

    `x` is (n, *shape without batch), in real units. None for a layer that is no plain product of rows.
    """
    if operator.name == "FULLY_CONNECTED":
        return _drawn(x.reshape(-1, weights.shape[1]))[None]
    if operator.name == "DEPTHWISE_CONV_2D" or (
        operator.name == "CONV_2D" and weights.shape[3] == x.shape[3]
    ):
        windows = _drawn(_windows(x, weights, operator.options))  # (patches, c, kh, kw)
        if operator.name == "CONV_2D":
            return np.asarray(windows.transpose(0, 2, 3, 1).reshape(1, len(windows), -1))
        return np.ascontiguousarray(windows.transpose(1, 0, 2, 3)).reshape(x.shape[3], len(windows), -1)
    return None


def _windows(x: Floats, weights: WeightTensor, options: object) -> Floats:
    """(n, h, w, c, kh, kw), a view."""
    strides, dilations, padding = _geometry(options)
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(weights.shape[1:3], dilations, strict=True)]
    if padding == SAME:
        pads = []
        for size, span, stride in zip(x.shape[1:3], spans, strides, strict=True):
            total = max(0, (-(-size // stride) - 1) * stride + span - size)
            pads.append((total // 2, total - total // 2))
        x = np.pad(x, ((0, 0), *pads, (0, 0)))
    windows = sliding_window_view(x, spans, axis=(1, 2))
    return np.asarray(windows[:, :: strides[0], :: strides[1], :, :: dilations[0], :: dilations[1]])


def _geometry(options: object) -> tuple[tuple[int, int], tuple[int, int], int]:
    """Strides, dilations and padding of a convolution's options."""
    names = "strideH", "strideW", "dilationHFactor", "dilationWFactor", "padding"
    stride_h, stride_w, dilation_h, dilation_w, padding = (int(getattr(options, name)) for name in names)
    return (stride_h, stride_w), (dilation_h, dilation_w), padding


def _drawn(x: Floats) -> Floats:
    """At most as many items as the budget of values allows; the places are the axes before the last three,
    or the first of two."""
    places = x.shape[:-3] if x.ndim > 2 else x.shape[:1]
    count = int(np.prod(places))
    size = x.size // count
    most = max(1, min(PATCH_VALUES // size, MOST_PATCHES))
    if count <= most:
        return x.reshape(count, *x.shape[len(places) :])
    chosen = np.sort(np.random.default_rng(0).choice(count, most, replace=False))
    return np.asarray(x[np.unravel_index(chosen, places)])


def rows(values: Array, weights: WeightTensor) -> Array:
    """(channels, k) of a tensor in the layer's shape."""
    if weights.kind == "depthwise":
        return np.asarray(values.reshape(-1, weights.channels).T)
    return values.reshape(weights.channels, -1)


def unrows(values: Array, weights: WeightTensor) -> Array:
    """A tensor in the layer's shape of (channels, k)."""
    return np.ascontiguousarray(values.T if weights.kind == "depthwise" else values).reshape(weights.shape)


@dataclass(frozen=True)
class Rounded:
    """`levels` (channels, k) and what to add to the bias, (channels,)."""

    levels: Levels
    shift: Doubles


def fit(values: Doubles, steps: Doubles, source: Floats, now: Floats, *, biased: bool) -> Rounded:
    """Levels of the rows `values` at `steps`, of which there is 1 or one a row.

    `source` and `now` are the patches that the source's layer and the rounded one take; with `biased` the
    bias makes up for the mean error, and levels only for what varies.
    """
    groups, _, k = now.shape
    grouped = values.reshape(groups, -1, k)
    before, after = source.mean(axis=1, dtype=np.float64), now.mean(axis=1, dtype=np.float64)
    if biased:
        same = source is now
        now = now - after[:, None].astype(np.float32)
        source = now if same else source - before[:, None].astype(np.float32)
    means = np.square(now).mean(axis=(1, 2), dtype=np.float64)
    unit = np.maximum(means, SMALLEST * means.max() + TINY)
    chance = WIDE * k / now.shape[1]
    wanted = grouped if source is now else _fitted(grouped, source, now, max(RIDGE, chance) * unit)
    along = np.broadcast_to(steps, len(values)).reshape(groups, -1, 1)
    levels = _round(wanted, along, now, max(DAMPING, chance) * unit)
    shift = _means(grouped, before) - _means(along * levels, after) if biased else np.zeros(len(values))
    return Rounded(levels.reshape(values.shape).astype(np.int8), shift)


def mean_outputs(values: Doubles, taken: Floats) -> Doubles:
    """The mean outputs (channels,) of the rows `values` (channels, k) on patches, without a bias."""
    groups, _, k = taken.shape
    return _means(values.reshape(groups, -1, k), taken.mean(axis=1, dtype=np.float64))


def _means(values: Doubles, taken: Doubles) -> Doubles:
    """The same of rows (groups, rows, k) and the means (groups, k) of what they take."""
    return np.asarray((values @ taken[:, :, None]).reshape(-1))


def plain(values: Doubles, steps: Doubles) -> Rounded:
    """Each weight rounded to the nearest level, at 1 step or one a row."""
    return Rounded(_nearest(values / steps[:, None]).astype(np.int8), np.zeros(len(values)))


def _fitted(values: Doubles, source: Floats, now: Floats, ridge: Doubles) -> Doubles:
    """The rows (groups, rows, k) that give on `now` what `values` give on `source`, nearly: least squares,
    held to `values` by the ridge.
    """
    moved = values @ _moments(source - now, now)
    return np.asarray(values + moved @ _inverse(now, ridge))


def _moments(a: Floats, b: Floats) -> Doubles:
    return np.asarray((a.transpose(0, 2, 1) @ b).astype(np.float64) / a.shape[1])


def _inverse(x: Floats, ridge: Doubles) -> Doubles:
    """Of the moments (groups, k, k) of x (groups, n, k) and the ridge (groups,) on their diagonals; of few
    samples by the identity of Woodbury.
    """
    _, count, k = x.shape
    eye, ridges = np.eye(k), ridge[:, None, None]
    if 2 * count >= k:
        return np.asarray(np.linalg.inv(_moments(x, x) + ridges * eye))
    wide = x.astype(np.float64)
    across = wide.transpose(0, 2, 1)
    inner = wide @ across + count * ridges * np.eye(count)
    return np.asarray((eye - across @ np.linalg.solve(inner, wide)) / ridges)


def levels_by_moments(wanted: Doubles, step: float, moments: Doubles) -> Doubles:
    """Levels (groups, rows, k) of `wanted`, where rows that differ by d do so at a cost of d @ moments @ d;
    moments are (groups, k, k).
    """
    order = np.argsort(-np.einsum("gkk->k", moments), kind="stable")
    return _ordered(wanted / step, order, np.asarray(np.linalg.inv(moments[:, order][:, :, order])))


def _round(wanted: Doubles, steps: Doubles, x: Floats, damping: Doubles) -> Doubles:
    """Levels (groups, rows, k) at `steps` (groups, rows, 1) of what is multiplied with x (groups, n, k)."""
    order = np.argsort(-np.square(x).sum(axis=(0, 1), dtype=np.float64), kind="stable")
    return _ordered(wanted / steps, order, _inverse(x[:, :, order], damping))


def _ordered(wanted: Doubles, order: NDArray[np.intp], inverse: Doubles) -> Doubles:
    """Levels of what is in units of steps, its columns in that order, in which the inverse of the moments
    (groups, k, k) has them.
    """
    left = wanted[:, :, order]
    upper = np.linalg.cholesky((inverse + inverse.transpose(0, 2, 1)) / 2).transpose(0, 2, 1)
    # What is left of a squared error once the later columns have made up for it.
    weights = np.einsum("gkk->gk", upper)[:, None] ** -2.0
    price = BIT * float(weights.mean())
    bits = _bits(_choose(left, weights, price, _bits(_nearest(left))))
    levels: Doubles = np.empty_like(left)
    size = left.shape[2]
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        errors = np.empty((*left.shape[:2], stop - start))
        for i in range(start, stop):
            levels[:, :, i] = _choose(left[:, :, i], weights[:, :, i], price, bits)
            error = (left[:, :, i] - levels[:, :, i]) / upper[:, None, i, i]
            errors[:, :, i - start] = error
            left[:, :, i + 1 : stop] -= error[:, :, None] * upper[:, None, i, i + 1 : stop]
        left[:, :, stop:] -= errors @ upper[:, start:stop, stop:]
    result: Doubles = np.empty_like(levels)
    result[:, :, order] = levels
    return result


def _nearest(x: Doubles) -> Doubles:
    return np.asarray(np.clip(np.rint(x), -LARGEST, LARGEST))


def _choose(x: Doubles, weights: Doubles, price: float, bits: Doubles) -> Doubles:
    """Per weight the level of least squared error * `weights` + `price` * bits: the nearest, the one
    before it, or 0.
    """
    chosen = _nearest(x)
    least = np.square(x - chosen) * weights + price * bits[chosen.astype(np.intp) + LARGEST]
    for other in (chosen - np.sign(chosen), np.zeros_like(chosen)):
        cost = np.square(x - other) * weights + price * bits[other.astype(np.intp) + LARGEST]
        chosen, least = np.where(cost < least, other, chosen), np.minimum(cost, least)
    return chosen


def _bits(levels: Doubles) -> Doubles:
    """What each level from -LARGEST on takes, when levels occur as often as in `levels`."""
    counts = np.bincount(levels.astype(np.intp).ravel() + LARGEST, minlength=2 * LARGEST + 1)
    # A little is added, so that levels that do not occur have a price, too: more for larger ones.
    known = counts + 0.5 * np.exp(-np.abs(np.arange(-LARGEST, LARGEST + 1)) / 8)
    return np.asarray(-np.log2(known / known.sum()))
