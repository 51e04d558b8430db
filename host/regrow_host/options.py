"""The ways to write one weight tensor: what grows from each, and how many bytes it takes."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from regrow import codecs
from regrow.pack import USE_EXECUTOR, USE_LITERT
from regrow.reader import Reader
from regrow.weights import Weights

from regrow_host.encode import central, grid, head, raw, short, snapped

Floats = NDArray[np.float32]
Levels = NDArray[np.int8]
Doubles = NDArray[np.float64]

COARSEST = 0.75
STEPS_PER_OCTAVE = 2
CENTRAL_BATCHES = 1, 2, 4, 8, 16, 32
"""Of 1: each weight its own mean, which is 16 bits: between the finest grid and floats where next to nothing
may be lost."""


@dataclass(frozen=True)
class Layer:
    """A weight tensor: the source's weights in real units (`values`), and what the runtimes' tensors take.

    `float_type` is that of LiteRT's tensor, None if it takes levels. `levels` and `scales` (1 or one per
    channel) are those of the integer network, None if there is none; `least` are the least scales that the
    layer's integer biases can take.
    """

    number: int
    name: str
    kind: str
    channels: int
    inner: int
    values: Floats
    float_type: str | None
    levels: Levels | None
    scales: Floats | None
    least: Floats
    one_scale: bool = False  # of the tensor: runtimes take no scale per channel there


@dataclass(frozen=True)
class Way:
    """How codec central writes; `mean` and `std` are those of the network, for the unitary unit."""

    unit: int
    restoration: int
    batch_size: int | None = None
    seed: int = 0
    mean: float | None = None
    std: float | None = None


@dataclass(frozen=True)
class Option:
    """One way to write a weight tensor: `levels` and `scales` for integer tensors, `values` for float ones.

    `shift` (channels,), real units, is what the layer's bias gains, which is no part of the weights.
    `size` in bytes is an estimate until `parts(uses)` encodes: (use, part) pairs.
    """

    codec: str
    size: float
    levels: Levels | None
    scales: Floats | None
    values: Floats
    parts: Callable[[int], list[tuple[int, bytes]]]
    shift: Doubles | None = None


def exact(layer: Layer) -> Option:
    """Codec raw: the weights as the networks have them, so floats for LiteRT and levels for the executor."""
    floats = levels = b""
    scales = None if layer.scales is None else _positive(layer.scales)
    if layer.float_type:
        floats = raw.encode(layer.values.astype(layer.float_type))
    if layer.levels is not None:
        levels = raw.encode(layer.levels, scales, layer.inner)

    both = [(USE_LITERT, floats), (USE_EXECUTOR, levels)] if layer.float_type else []
    parts = partial(_chosen, both, levels)
    return Option("raw", len(floats) + len(levels), layer.levels, scales, layer.values, parts)


def _chosen(both: list[tuple[int, bytes]], one: bytes, uses: int) -> list[tuple[int, bytes]]:
    """Of a part for each of two runtimes those that are used, or the one part for all."""
    return [(use, part) for use, part in both if uses & use] if both else [(uses, one)]


def lossless(layer: Layer) -> Option | None:
    """Codec grid with the integer network's own levels; None where LiteRT takes floats."""
    if layer.levels is None or layer.float_type is not None or layer.scales is None:
        return None
    return replace(gridded(layer, layer.levels, _positive(layer.scales)), values=layer.values)


def rounded(layer: Layer) -> Iterator[Option]:
    """Codec grid at steps from about 8 bits down to 2, one step for the tensor or one a channel."""
    peaks = channel_peaks(layer)
    peak = float(peaks.max()) or 1.0
    forms = [np.array([peak])]
    if peaks.min() < peak and not layer.one_scale:
        forms.append(np.where(peaks > 0, peaks, peak))
    for form in forms:
        for halvings in range(int(STEPS_PER_OCTAVE * math.log2(127 / COARSEST)) + 1):
            finest = layer.least if form.size > 1 else layer.least.max()
            steps = np.maximum(form / 127 * 2 ** (halvings / STEPS_PER_OCTAVE), finest)
            scales = _positive(steps.astype(np.float32))
            scales = snapped(scales) if form.size > 1 else short(scales)
            yield nearest(layer, scales)


def centralized(layer: Layer, way: Way) -> Option:
    """Codec central."""
    part = central.encode(
        layer.values, way.unit, way.restoration, way.batch_size, way.seed, way.mean, way.std
    )
    weights = Weights(Reader(BytesIO(part), 0, len(part)))
    values = np.empty(layer.values.shape, np.float32)
    weights.read_floats(values)
    weights.rewind()
    levels = np.empty(layer.values.shape, np.int8)
    weights.read_levels(levels)
    scales = np.array(weights.scales[:1])
    return Option("central", len(part), levels, scales, values, partial(_chosen, [], part))


def central_batches(layer: Layer) -> Iterator[Option]:
    """Codec central by mean at small batches, where it may compete with grid."""
    for size in CENTRAL_BATCHES:
        if size < layer.values.size:
            yield centralized(layer, Way(central.BATCH, central.MEAN, size))


def gridded(layer: Layer, levels: Levels, scales: Floats, shift: Doubles | None = None) -> Option:
    """Codec grid, for levels in the layer's shape and 1 or one scale a channel."""
    along = scales if scales.size == 1 else scales[:, None]
    values = (levels.reshape(-1, layer.channels, layer.inner) * along).astype(np.float32)
    return Option(
        "grid",
        len(head(codecs.GRID, codecs.INT8, levels.size, scales, layer.inner)) + grid.size_estimate(levels),
        levels,
        scales,
        values.reshape(layer.values.shape),
        partial(_encoded, levels, scales, layer.inner),
        shift,
    )


def _encoded(levels: Levels, scales: Floats, inner: int, uses: int) -> list[tuple[int, bytes]]:
    return [(uses, grid.encode(levels, scales, inner))]


def nearest(layer: Layer, scales: Floats) -> Option:
    """Codec grid, each weight rounded to the nearest level, at 1 or one scale a channel."""
    along = scales if scales.size == 1 else scales[:, None]
    levels = np.clip(np.rint(_by_channel(layer) / along), -127, 127)
    return gridded(layer, levels.astype(np.int8).reshape(layer.values.shape), scales)


def channel_peaks(layer: Layer) -> Doubles:
    """The largest of each channel's weights, (channels,)."""
    return np.asarray(np.abs(_by_channel(layer)).max(axis=(0, 2)), np.float64)


def _by_channel(layer: Layer) -> Floats:
    return layer.values.reshape(-1, layer.channels, layer.inner)


def _positive(scales: Floats) -> Floats:
    """A pack takes no scale of 0, which some networks give a channel that has no weights but 0."""
    return np.where(scales > 0, scales, np.float32(1)).astype(np.float32)
