"""Codec grid: levels by range ANS (arXiv:1311.2540) under the model that writes them in the fewest bytes."""

import math
import struct
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from regrow import codecs
from regrow.codecs.gridmodel import (
    CLASSES,
    CONSTANT,
    MOST_STRIPE,
    PHASES,
    PRECISION,
    SHAPES,
    UNIT,
    Context,
    Model,
    Neighbour,
    Numbers,
    below,
    half_octaves,
)
from regrow.errors import InputError

from regrow_host.encode import weights_part
from regrow_host.varint import signed, varint

_LOOK_BACK = 1024  # weights: a board keeps them, and their sizes, in its heap while it installs
_QUICK, _SMALL = (256, 512, 3072), (512, 1024, 8192)
"""About the bytes of a stripe, its fewest weights and its most: a host decodes stripes side by side, so that
short ones are quick; where all that a model learns begins anew with each of them, long ones are smaller."""
_WORTH = 0.98  # of the quick stripes' bytes, for which small ones are taken
_SLACK = 1.45  # how much longer stripes may be than those of as many bytes
_OVERHEAD = 2.5  # bytes of a stripe: its last weight takes up to 13 bits, the code's end 4, its size 8
_HEADER = 4
_MOST_NEIGHBOURS = 3
_NEIGHBOUR_BYTES = 3
_CONTEXT_BYTES = 5
_CONTEXT_WEIGHTS = 8, 14
_TRIED_CONTEXTS = 4
_SHAPE, _SLOPE = 4, 3
_STEPS = (
    *((0, 2, 0), (0, -2, 0), (0, 1, 0), (0, -1, 0), (1, 0, 0), (-1, 0, 0)),
    *((1, 1, 0), (-1, -1, 0), (1, -1, 0), (-1, 1, 0), (0, 0, 1), (0, 0, -1)),
)

_Levels = npt.NDArray[np.int8]


def encode(
    levels: _Levels, scales: npt.NDArray[np.float32], inner: int = 1, *, model: Model | None = None
) -> bytes:
    """The part of int8 `levels` in the tensor's shape, with `scales` of shape (channels,).

    Weight i belongs to channel (i // inner) % channels. A `model` that is given must reach all levels (else
    InputError); without one, that which takes the fewest bytes is searched for.
    """
    flat = levels.ravel().astype(np.int64)
    if model is None and (flat == flat[0]).all():
        body = struct.pack("<Bb", CONSTANT, flat[0])
    else:
        body = _code(flat, model or _model(levels))
    return weights_part(codecs.GRID, codecs.INT8, levels.size, body, scales=scales, inner=inner)


def size_estimate(levels: _Levels) -> float:
    """Bytes that `encode` will take for these levels, nearly, but for the header and the scales."""
    code = _entropy(levels)
    if not code:
        return 2
    code = max(0.0, code - _likeness(levels))
    return _HEADER + code + _OVERHEAD * _split(levels.size, code, *_QUICK)


def _likeness(levels: _Levels) -> float:
    """About the bytes saved by predicting each level from the one that is most like it, of those close by.

    A rounding error counts as a quarter of a step's square, so that few levels gain little.
    """
    x = levels.ravel().astype(np.float32)
    power = float(x @ x)
    alike = [float(x[each:] @ x[:-each]) / power for each in (1, *_periods(levels.shape)) if each < x.size]
    share = min(max(map(abs, alike), default=0.0), 0.99) ** 2
    error = power / x.size
    return x.size / 16 * math.log2((error + 0.25) / (error * (1 - share) + 0.25))


def _model(levels: _Levels) -> Model:
    """A good model of the levels."""
    cost, quick = _fit_stripes(levels, _QUICK)
    if not quick.farthest:
        return quick
    least, small = _fit_stripes(levels, _SMALL)
    return small if least < _WORTH * cost else quick


def _fit_stripes(levels: _Levels, kind: tuple[int, int, int]) -> tuple[float, Model]:
    """A good model with stripes of that kind, and the bytes it takes."""
    flat = levels.ravel().astype(np.int64)
    fitted = [_fit(flat, levels.shape, stripe) for stripe in _stripes(levels, kind)]
    return min(fitted, key=lambda each: each[0])


def _entropy(levels: _Levels) -> float:
    """Bytes of the levels, each by itself."""
    counts = np.bincount(levels.ravel().view(np.uint8))
    occurring = counts[counts > 0].astype(np.float64)
    return float((occurring * np.log2(levels.size / occurring)).sum() / 8)


def _split(count: int, code: float, size: int, shortest: int, longest: int) -> int:
    """Into how many stripes so many weights of so many bytes go."""
    return max(1, min(int(code / size), count // shortest), -(-count // longest))


def _stripes(levels: _Levels, kind: tuple[int, int, int]) -> list[int]:
    """Lengths of a stripe to try: whole rows of the tensor, or a power of two."""
    count = levels.size
    stripes = _split(count, _entropy(levels), *kind)
    length = -(-count // stripes)
    if stripes == 1:
        return [-(-count // UNIT) * UNIT]
    lengths = {round(length / row) * row for row in _periods(levels.shape)}
    lengths |= {1 << math.floor(math.log2(length)), length, 1 << math.ceil(math.log2(length))}
    return sorted({max(each // UNIT, 1) * UNIT for each in lengths if each <= _SLACK * length})


def _periods(shape: tuple[int, ...]) -> list[int]:
    """After how many weights the same input comes again."""
    count = math.prod(shape)
    return sorted({period for period in (shape[-1], count // shape[0]) if 1 < period < count})


def _fit(levels: Numbers, shape: tuple[int, ...], stripe: int) -> tuple[float, Model]:
    """A good model of the levels for stripes of that length, and the bytes it takes."""
    stripe = min(stripe, MOST_STRIPE)
    centre = _centre(levels)
    candidates = {(), _neighbours(levels - centre)}
    return min(
        (_fit_residuals(levels, shape, Model(centre, 1, 0, 0, stripe, each)) for each in candidates),
        key=lambda fitted: fitted[0],
    )


def _centre(levels: Numbers) -> int:
    return int(np.median(levels))


def _fit_residuals(levels: Numbers, shape: tuple[int, ...], model: Model) -> tuple[float, Model]:
    """The same for given neighbours."""
    expected, residuals, sizes = _residuals(levels, model)
    reach = max(1, int(np.abs(residuals).max()))
    model = replace(model, reach=reach)
    fixed = (
        _HEADER
        + bool(model.centre)
        + _OVERHEAD * -(-levels.size // model.stripe)
        + _NEIGHBOUR_BYTES * len(model.neighbours)
    )
    phases = expected + 2 - 4 * ((expected + 2) >> 2)
    counts = _count(phases, residuals, model)
    best = _fit_spread(counts, model)
    plain = best[1]
    size = min(120, max(0, round(8 * math.log2(max(1.0, float(sizes.mean()))))))
    tried = []
    for each in _contexts(sizes, shape, replace(plain, size=size, slope=_SLOPE)):
        rows = phases + each[1]
        counts = _count(rows, residuals, each[0])
        tried.append((_cost(counts, each[0]), counts, each[0]))
    tried.sort(key=lambda each: each[0])
    results = [(fixed + best[0], best[1])]
    for _, counts, candidate in tried[:_TRIED_CONTEXTS]:
        cost, fitted = _fit_spread(counts, candidate)
        results.append((fixed + _CONTEXT_BYTES + cost, fitted))
    return min(results, key=lambda result: result[0])


def _residuals(levels: Numbers, model: Model) -> tuple[Numbers, Numbers, Numbers]:
    """Where each level is expected in 1/4 from the centre, what remains, and how much that is in 1/256."""
    values = levels - model.centre
    column = np.arange(values.size) % model.stripe
    expected = np.full(values.size, 8)
    for each in model.neighbours:
        there = column[each.distance :] >= each.distance % model.stripe
        expected[each.distance :] += each.weight * values[: -each.distance] * there
    expected >>= 4
    nearest = (expected + 2) >> 2
    residuals = (values - nearest + 128 & 255) - 128
    sizes = np.abs(4 * (nearest + residuals) - expected) << 6
    return expected, residuals, sizes


def _averages(sizes: Numbers, distance: int, shift: int, model: Model) -> Numbers:
    """A context's average before each weight."""
    first, stripe = model.first_size, model.stripe
    stripes = -(-sizes.size // stripe)
    over, across = divmod(distance, stripe)
    if not over and stripes * across < 64:
        return _averages_singly(sizes, distance, shift, model)
    padded = np.zeros((stripes, stripe), np.int64)
    padded.ravel()[: sizes.size] = sizes
    before = np.full((stripes, stripe), first)
    if over:
        after = before.copy()
        for j in range(stripes):
            if j >= over:
                before[j, across:] = after[j - over, : stripe - across]
            after[j] = before[j] + ((padded[j] - before[j]) >> shift)
    else:
        for column in range(0, stripe - across, across):
            now = before[:, column : column + across]
            after = now + ((padded[:, column : column + across] - now) >> shift)
            before[:, column + across : column + 2 * across] = after[:, : stripe - column - across]
    return before.ravel()[: sizes.size]


def _averages_singly(sizes: Numbers, distance: int, shift: int, model: Model) -> Numbers:
    before: list[int] = []
    numbers = sizes.tolist()
    for start in range(0, len(numbers), model.stripe):
        averages = [model.first_size] * distance
        for size in numbers[start : start + model.stripe]:
            average = averages[-distance]
            averages.append(average + ((size - average) >> shift))
        before += averages[: min(model.stripe, len(numbers) - start)]
    return np.array(before)


def _contexts(sizes: Numbers, shape: tuple[int, ...], model: Model) -> Iterator[tuple[Model, Numbers]]:
    """Models with a context, and the class of each weight, times PHASES."""
    places = [(1, shift) for shift in (2, 3, 4, 5)]
    places += [
        (period, shift) for period in _periods(shape) if period <= _LOOK_BACK for shift in (1, 2, 3, 4)
    ]
    for distance, shift in places:
        averages = _averages(sizes, distance, shift, model)
        for weight in _CONTEXT_WEIGHTS:
            candidate = replace(model, context=Context(distance, shift, weight))
            yield candidate, _classes(candidate.rest + weight * averages, candidate)


def _classes(totals: Numbers | int, model: Model) -> Numbers:
    """The classes of 16 times the expected sizes, times PHASES."""
    classes: Numbers = model.classes()[half_octaves()[totals >> 4]] * PHASES
    return classes


def _count(rows: Numbers, residuals: Numbers, model: Model) -> Numbers:
    """How often each residual occurs in each row."""
    width = 2 * model.reach + 1
    flat = np.bincount(rows * width + residuals + model.reach, minlength=CLASSES * PHASES * width)
    return flat.reshape(-1, width)


def _cost(counts: Numbers, model: Model) -> float:
    """Bytes of residuals that occur so often per row."""
    rows = counts.any(axis=1).nonzero()[0]
    exponents, phases = model.exponents(rows).tolist(), (rows % PHASES - 2).tolist()
    bits = [_bits(model.shape, *each, model.reach) for each in zip(exponents, phases, strict=True)]
    return float(np.vdot(counts[rows], bits)) / 8


@lru_cache(4096)
def _bits(shape: int, exponent: int, phase: int, reach: int) -> npt.NDArray[np.float64]:
    """Of each residual."""
    found = PRECISION - np.log2(np.diff(below(shape, np.array([exponent]), np.array([phase]), reach)))
    found.flags.writeable = False
    return found


def _fit_spread(counts: Numbers, model: Model) -> tuple[float, Model]:
    """The model with the shape, spread and slope that cost least, found in single steps, and its bytes."""
    size = (counts.sum(axis=0) @ np.abs(np.arange(-model.reach, model.reach + 1))) / counts.sum()
    spread = model.spread or min(max(int(32 + 8 * math.log2(max(size, 0.05))), 0), 127)
    best = replace(model, shape=_SHAPE if not model.spread else model.shape, spread=spread)
    cost = _cost(counts, best)
    better = True
    while better:
        better = False
        for shape, spread, slope in _STEPS:
            there = best.shape + shape, best.spread + spread, best.slope + slope
            if not (0 <= there[0] < len(SHAPES) and 0 <= there[1] < 128 and 0 <= there[2] < 16):
                continue
            if slope and not best.context:
                continue
            moved = replace(best, shape=there[0], spread=there[1], slope=there[2])
            moved_cost = _cost(counts, moved)
            if moved_cost < cost:
                best, cost, better = moved, moved_cost, True
                break
    return cost, best


def _neighbours(values: Numbers) -> tuple[Neighbour, ...]:
    """Up to three earlier levels that together predict best (least squares), chosen one by one."""
    x = values.astype(np.float64)
    found: tuple[Neighbour, ...] = ()
    if not x.any():
        return found
    candidates = _correlated(x)
    saved = 0.0
    for _ in range(_MOST_NEIGHBOURS):
        tried = []
        for distance in candidates:
            distances = [*(each.distance for each in found), distance]
            if len(set(distances)) == len(distances):
                tried.append(_predict(x, distances))
        best = max(tried, key=lambda each: each[0], default=(0.0, ()))
        if best[0] < saved + 1:
            break
        saved, found = best
        near = [each.distance for each in found]
        sums = {abs(a + sign * b) for a in near for b in near for sign in (1, -1)}
        candidates |= {d for d in sums if 0 < d <= min(_LOOK_BACK, x.size // 2)}
    return found


def _correlated(x: npt.NDArray[np.float64]) -> set[int]:
    """The distances at which values look most alike, large ones tamed."""
    tamed = np.sign(x) * np.sqrt(np.abs(x))
    length = 1 << math.ceil(math.log2(2 * x.size))
    alike = np.abs(np.fft.irfft(np.abs(np.fft.rfft(tamed, length)) ** 2))
    alike = alike[1 : min(_LOOK_BACK, x.size // 2) + 1]
    return {int(place) + 1 for place in np.argsort(-alike)[:15]}


def _predict(x: npt.NDArray[np.float64], distances: list[int]) -> tuple[float, tuple[Neighbour, ...]]:
    """Bytes that levels at these distances save, and their weights."""
    past = np.zeros((len(distances), x.size))
    for row, distance in zip(past, distances, strict=True):
        row[distance:] = x[:-distance]
    weights = np.linalg.solve(past @ past.T + 1e-6 * np.eye(len(distances)), past @ x)
    rest = ((x - weights @ past) ** 2).sum() + 1e-9
    saved = x.size / 16 * math.log2((x**2).sum() / rest) - _NEIGHBOUR_BYTES * len(distances)
    steps = np.clip(np.rint(64 * weights), -127, 127).astype(int).tolist()
    return saved, tuple(map(Neighbour, distances, steps))


def _code(levels: Numbers, model: Model) -> bytes:
    """The body of a weights part."""
    expected, residuals, sizes = _residuals(levels, model)
    rows = expected + 2 - 4 * ((expected + 2) >> 2)
    if one := model.context:
        total = model.rest + one.weight * _averages(sizes, one.distance, one.shift, model)
        rows = rows + _classes(total, model)
    cumulative = model.below(np.arange(model.rows))
    symbols = residuals + model.reach
    if symbols.min() < 0 or symbols.max() > 2 * model.reach:
        raise InputError("the model of grid weights does not reach all levels")
    starts = cumulative[rows, symbols]
    frequencies = cumulative[rows, symbols + 1] - starts
    stripes = [
        _ans(starts[i : i + model.stripe].tolist(), frequencies[i : i + model.stripe].tolist())
        for i in range(0, levels.size, model.stripe)
    ]
    code = b"".join(stripes)
    less = b"".join(signed(len(each) - len(code) // len(stripes)) for each in stripes[:-1])
    return _header(model) + less + code


def _header(model: Model) -> bytes:
    forms = model.shape | len(model.neighbours) << 3 | bool(model.context) << 5 | bool(model.centre) << 7
    header = struct.pack("<Bb", forms, model.centre)[: 1 + bool(model.centre)]
    header += bytes([model.reach, model.spread]) + varint(model.stripe // UNIT - 1)
    for near in model.neighbours:
        header += varint(near.distance) + struct.pack("<b", near.weight)
    if one := model.context:
        header += bytes([model.slope, model.size])
        header += varint(one.distance) + bytes([one.shift | one.weight << 4])
    return header


def _ans(starts: list[int], frequencies: list[int]) -> bytes:
    """The bytes from which the decoder gets a stripe: its steps, backwards."""
    state, words = 0, []
    for start, frequency in zip(reversed(starts), reversed(frequencies), strict=True):
        if state >= frequency << 30 - PRECISION:
            words.append(state & 0xFFFF)
            state >>= 16
        quotient, rest = divmod(state, frequency)
        state = (quotient << PRECISION) + start + rest
    while state >> 8:
        words.append(state & 0xFFFF)
        state >>= 16
    return bytes([state] if state else []) + struct.pack(f"<{len(words)}H", *reversed(words))
