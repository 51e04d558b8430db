"""Tune rounded weights against the source network on unlabelled samples, at the bytes that they take.

Layers are first rounded anew by how far the outputs move (`curvature`). The last ones, which have most of the
bytes, are then tuned; what the layers before them give of some samples is
computed once for many steps. Levels are rounded from real numbers in every pass and trained straight through
(Bengio, Leonard and Courville, 2013), with the step of each layer (Esser et al., Learned Step Size
Quantization, 2020) and the biases. The loss is how far outputs move from the source's (Hinton, Vinyals and
Dean, 2015) plus a price for each bit of the levels' entropy; the price follows the bytes, which stay as they
were. There are about as many weights as samples tell, so samples are varied and mixed (Zhang et al., mixup,
2018), which the source answers as well, and of all steps the one is kept that is best on other samples.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from regrow_host import options, sources, tflite
from regrow_host.curvature import Curvature
from regrow_host.kerasnet import Array, KerasNetwork
from regrow_host.options import Layer, Option

import jax  # isort: skip
import keras  # isort: skip - kerasnet chose its backend
from keras import ops  # isort: skip

Floats = NDArray[np.float32]

STEPS, BATCH = 3000, 64
LEVEL_RATE, STEP_RATE, BIAS_RATE = 0.002, 0.0003, 0.0003
"""How far a step of training moves at most, nearly: in levels, in octaves, in mean absolute biases."""
WARM_UP = 100
TUNED_SHARE = 0.7
"""Of the bytes, that the last layers have at least which are tuned."""
HELD_SHARE, MOST_HELD = 8, 1024
"""One in so many samples, but so many at most, judges and is not trained on."""
CHECK_EVERY = 250
DRAWN, DRAW_EVERY, CHUNK = 4096, 256, 256
"""Samples that are varied and go through the first layers, and for how many steps."""
FIRST_PRICE = 2e-6
PRICE_EVERY, PRICE_GAIN, PRICE_MOST = 10, 3.0, 0.2
SLACK, ROUNDED_SLACK = 1.005, 1.02
"""Of the bytes, that tuned levels may take, and those that tuning begins with."""
LARGEST = 127
NEAR = 0.42
"""How far from its level a weight begins at most: at half a step it would take another level at once."""
PRIOR = 3.0
"""Levels' worth of a geometric law in the frequencies, so that every level has a price."""
MIRRORED = 0.5
"""Share of images that are mirrored left to right."""
SHIFT = 2
"""Pixels that images move at most."""
MIXED = 0.5
"""Share of samples that are mixed with another."""


class State(NamedTuple):
    """All that a step of training changes. `moves` are what is added to what training began with, in units
    of the rates; `tables` (layers, levels) the bits of each level; `best` the moves of the least distance so
    far on samples that are not trained on, which is `least`.
    """

    moves: list[Array]
    best: list[Array]
    optimizer: list[Array]
    tables: Floats
    price: float
    least: float
    done: int


class Tuning:
    """Tunes those of the chosen options that are levels with one step, of the last layers; the others stay as
    they are.

    `model` is a float32 `.tflite`, `x` (n, *input shape without batch) in real units. Raises InputError for a
    network that cannot be trained. What was done is kept in the cache, so that the next tuning of the same
    things begins where this one was interrupted.
    """

    def __init__(
        self,
        model: bytes,
        x: Floats,
        layers: Mapping[int, Layer],
        chosen: Mapping[int, Option],
        *,
        classifier: bool,
        steps: int,
        seed: int = 0,
    ) -> None:
        self._model = tflite.read(model)
        self._network = KerasNetwork(self._model)
        order = np.random.default_rng(seed).permutation(len(x))
        held = min(len(x) // HELD_SHARE, MOST_HELD)
        self._held, self._x = x[order[:held]], x[order[held:]]
        self._layers = layers
        self._classifier, self._seed = classifier, seed
        self._weights = {each.number: each for each in tflite.weight_tensors(self._model)}
        self._steps = steps if held else 0
        self._begin(chosen)
        self._file = _folder() / self._digest(model)

    def _begin(self, chosen: Mapping[int, Option]) -> None:
        """Levels and logarithms of steps of each tuned layer, then the biases of the last layers."""
        self._chosen = dict(chosen)
        last = _last(self._chosen)
        self._cut = self._weights[last[0]].operator if last else 0
        self._tuned = [number for number in last if _tunable(chosen[number])]
        if not self._tuned:
            self._steps = 0
        levels, log_steps = [], []
        self._fixed: dict[int, Floats] = {}
        self._biases: dict[int, Floats] = {}
        for number, option in self._chosen.items():
            weights = self._weights[number]
            place = tflite.bias_of(self._model, weights)
            if place >= 0:
                bias = np.asarray(self._bias(number) + _shift(option), np.float32)
                if number in last:
                    self._biases[number] = bias
                else:
                    self._fixed[place] = bias
            if number not in self._tuned:
                self._fixed[weights.tensor] = option.values.reshape(weights.shape)
                continue
            assert option.levels is not None
            assert option.scales is not None
            step, rounded = float(option.scales[0]), option.levels.astype(np.float32)
            near = np.clip(self._layers[number].values / step, rounded - NEAR, rounded + NEAR)
            levels.append(near.reshape(weights.shape).astype(np.float32))
            log_steps.append(np.float32(math.log(step)))
        biases = list(self._biases.values())
        self._first = [*levels, *log_steps, *biases]
        self._rates = [LEVEL_RATE] * len(levels) + [STEP_RATE] * len(levels)
        self._rates += [BIAS_RATE * (float(np.abs(each).mean()) + 1e-3) for each in biases]
        moves = [keras.Variable(np.zeros(each.shape, np.float32)) for each in self._first]
        warm_up = min(WARM_UP, self._steps // 2)
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, self._steps - warm_up), warmup_target=1.0, warmup_steps=warm_up
        )
        # What it moves has gradients as small as its rate.
        self._adam = keras.optimizers.Adam(schedule, beta_2=0.99, epsilon=1e-12)
        self._adam.build(moves)
        optimizer = [each.value for each in self._adam.variables]
        tables = np.zeros((len(levels), 2 * LARGEST + 1), np.float32)
        start = [each.value for each in moves]
        self._state = State(start, start, optimizer, tables, FIRST_PRICE, math.inf, 0)
        self._start = self._size()
        self._drawn: Any = None
        # Anew, as what they take from here is constant to them.
        self._before = jax.jit(partial(self._reached))
        self._step = jax.jit(partial(self._trained))
        self._judge = jax.jit(partial(self._moved))

    def _bias(self, number: int) -> NDArray[np.float64]:
        """The source's."""
        data = self._model.tensors[tflite.bias_of(self._model, self._weights[number])].data
        assert data is not None
        return np.asarray(data, np.float64)

    @property
    def steps(self) -> int:
        return self._steps

    @property
    def done(self) -> int:
        """Steps so far, those of earlier runs included."""
        return self._state.done

    @property
    def layers(self) -> int:
        return len(self._weights)

    def round(self, done: Callable[[int], None] = lambda done: None) -> None:
        """Begin with levels that the outputs' curvature tells, if they are better on other samples;
        `done(count)` is called after each layer. Nothing to do where an earlier run had begun.
        """
        if self._load() or not self._steps:
            return
        curvature = Curvature(
            self._model, self._network, self._x, classifier=self._classifier, seed=self._seed
        )
        before, size, far = self._chosen, _bytes(self._chosen), self._far(self._chunks(self._held))
        self._begin(curvature.rounded(self._layers, before, done))
        if _bytes(self._chosen) > size * ROUNDED_SLACK or self._far(self._chunks(self._held)) >= far:
            self._begin(before)

    def _far(self, held: Sequence[tuple[dict[int, Floats], Floats]]) -> float:
        """How far the outputs of those samples are from the source's, in all."""
        return sum(float(self._judge(self._state.moves, *each)) * len(each[1]) for each in held)

    def run(self, step: Callable[[int], None] = lambda done: None) -> None:
        """Go on to the last step; `step(done)` is called after each. KeyboardInterrupt saves and passes."""
        if self.done == 0:
            self._load()
        if not self._steps:
            return
        held = self._chunks(self._held)
        try:
            while self.done < self._steps:
                if self.done == 0:
                    self._check(held)
                if self.done % DRAW_EVERY == 0 or self._drawn is None:
                    self._draw()
                self._train()
                step(self.done)
                if self.done % CHECK_EVERY == 0 or self.done == self._steps:
                    self._check(held)
                    self._save()
        except KeyboardInterrupt:
            self._save()
            raise

    def options(self) -> dict[int, Option]:
        """What has become of the chosen options; those that are not tuned gain tuned biases only."""
        levels, log_steps, biases = self._split(self._values(self._state.best))
        shifts = {
            number: np.asarray(bias, np.float64) - self._bias(number)
            for number, bias in zip(self._biases, biases, strict=True)
        }
        found = {
            number: replace(option, shift=shifts.get(number, option.shift))
            for number, option in self._chosen.items()
        }
        for number, values, log_step in zip(self._tuned, levels, log_steps, strict=True):
            layer = self._layers[number]
            scales = np.maximum(np.exp(np.array([log_step], np.float32)), layer.least.max())
            rounded = _rounded(np.asarray(values)).astype(np.int8).reshape(layer.values.shape)
            found[number] = options.gridded(layer, rounded, scales, shifts.get(number))
        return found

    def _values(self, moves: list[Array]) -> list[Array]:
        return [
            first + rate * move for first, rate, move in zip(self._first, self._rates, moves, strict=True)
        ]

    def _split(self, values: list[Array]) -> tuple[list[Array], list[Array], list[Array]]:
        """Levels, logarithms of steps and biases."""
        count = len(self._tuned)
        return values[:count], values[count : 2 * count], values[2 * count :]

    def _draw(self) -> None:
        """Samples to train on for some steps, the same for the same step."""
        rng = np.random.default_rng((self._seed, 0, self.done // DRAW_EVERY))
        chosen = self._x[rng.choice(len(self._x), DRAWN, replace=len(self._x) < DRAWN)]
        self._drawn = jax.tree.map(
            lambda *parts: np.concatenate(parts), *self._chunks(augmented(chosen, rng))
        )

    def _chunks(self, x: Floats) -> list[tuple[dict[int, Floats], Floats]]:
        """What the tuned layers take, and what the source gives."""
        chunks = (x[start : start + CHUNK] for start in range(0, len(x), CHUNK))
        return [jax.tree.map(np.asarray, self._before(each)) for each in chunks]

    def _reached(self, x: Array) -> tuple[dict[int, Array], Array]:
        return self._network.reach(self._cut, x, self._fixed), self._network(x, {}, logits=True)

    def _check(self, held: Sequence[tuple[dict[int, Floats], Floats]]) -> None:
        """Keep the moves if they are the best so far, in no more bytes than those that began."""
        if self._size() > self._start * SLACK:
            return
        far = self._far(held)
        if far < self._state.least:
            self._state = self._state._replace(best=self._state.moves, least=far)

    def _train(self) -> None:
        if self.done % PRICE_EVERY == 0:
            self._follow()
        state = self._state
        rng = np.random.default_rng((self._seed, 1, state.done))
        batch = rng.choice(DRAWN, BATCH, replace=False)
        taken, wanted = jax.tree.map(lambda each: each[batch], self._drawn)
        prices = np.float32(state.price) * state.tables
        moves, optimizer = self._step(state.moves, state.optimizer, taken, wanted, prices)
        self._state = state._replace(moves=moves, optimizer=optimizer, done=state.done + 1)

    def _trained(
        self,
        moves: list[Array],
        optimizer: list[Array],
        taken: dict[int, Array],
        wanted: Array,
        prices: Array,
    ) -> tuple[list[Array], list[Array]]:
        """Moves and the optimizer's variables after a step, where each level of a layer has its price."""

        def loss(moves: list[Array]) -> Array:
            levels = self._split(self._values(moves))[0]
            paid = sum(_paid(*each) for each in zip(levels, prices, strict=True))
            return self._moved(moves, taken, wanted) + paid

        gradients = jax.grad(loss)(moves)
        moves, optimizer = self._adam.stateless_apply(optimizer, gradients, moves)
        return list(moves), list(optimizer)

    def _moved(self, moves: list[Array], taken: dict[int, Array], wanted: Array) -> Array:
        """How far outputs are from the source's."""
        given = self._given(self._values(moves))
        return self._distance(wanted, self._network.finish(self._cut, taken, given, logits=True))

    def _given(self, values: list[Array]) -> dict[int, Array]:
        """Weights and biases by tensor."""
        given: dict[int, Array] = dict(self._fixed)
        levels, log_steps, biases = self._split(values)
        for number, real, log_step in zip(self._tuned, levels, log_steps, strict=True):
            rounded = real + jax.lax.stop_gradient(_rounded(real) - real)
            given[self._weights[number].tensor] = rounded * ops.exp(log_step)
        for number, bias in zip(self._biases, biases, strict=True):
            given[tflite.bias_of(self._model, self._weights[number])] = bias
        return given

    def _distance(self, wanted: Array, given: Array) -> Array:
        wanted, given = ops.reshape(wanted, (len(wanted), -1)), ops.reshape(given, (len(given), -1))
        if self._classifier and wanted.shape[1] > 1:
            p, q = ops.log_softmax(given), ops.log_softmax(wanted)
            return ops.mean(ops.sum(ops.exp(q) * (q - p), axis=1))
        return ops.mean(ops.square(given - wanted)) / (ops.var(wanted) + 1e-12)

    def _follow(self) -> None:
        """Take the levels' frequencies anew, and a price that brings their bytes back to what they were."""
        change = PRICE_GAIN * (self._size() / self._start - 1)
        price = self._state.price * math.exp(max(-PRICE_MOST, min(PRICE_MOST, change)))
        tables = np.array([_table(each) for each in self._levels()], np.float32)
        self._state = self._state._replace(tables=tables, price=price)

    def _levels(self) -> list[Floats]:
        return [_rounded(np.asarray(each)) for each in self._split(self._values(self._state.moves))[0]]

    def _size(self) -> float:
        """Bytes of the tuned levels by their entropy."""
        return sum(map(_entropy, self._levels())) / 8 + 1

    def _digest(self, model: bytes) -> str:
        digest = sha256(model)
        for x in (self._x, self._held):
            digest.update(x.tobytes())
        for each in self._first:
            digest.update(each.tobytes())
        versions = keras.__version__, jax.__version__
        digest.update(repr((self._classifier, self._steps, self._seed, versions)).encode())
        return digest.hexdigest() + ".npz"

    def _save(self) -> None:
        """As this is a cache, a full disk is no failure."""
        state = self._state
        kept = [*state.moves, *state.best, *state.optimizer]
        arrays: dict[str, Any] = {f"array{i}": np.asarray(each) for i, each in enumerate(kept)}
        for number, option in self._chosen.items():
            if _tunable(option):
                arrays |= {f"levels{number}": option.levels, f"shift{number}": _shift(option)}
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._file.with_suffix(".tmp")
            with temporary.open("wb") as file:
                np.savez(
                    file, tables=state.tables, figures=(state.price, state.least), done=state.done, **arrays
                )
            temporary.replace(self._file)
        except OSError:
            return

    def _load(self) -> bool:
        """Whether something was saved."""
        try:
            with np.load(self._file) as file:
                saved = dict(file)
        except (OSError, ValueError, EOFError, BadZipFile):
            return False
        chosen = dict(self._chosen)
        for number, option in chosen.items():
            if _tunable(option):
                assert option.scales is not None
                levels, shift = saved[f"levels{number}"], saved[f"shift{number}"]
                chosen[number] = options.gridded(self._layers[number], levels, option.scales, shift)
        self._begin(chosen)
        arrays = [saved[f"array{i}"] for i in range(sum(name.startswith("array") for name in saved))]
        count = len(self._first)
        price, least = saved["figures"].tolist()
        lists = arrays[:count], arrays[count : 2 * count], arrays[2 * count :]
        self._state = State(*lists, saved["tables"], price, least, int(saved["done"]))
        return True


def check(model: bytes) -> None:
    """Raises InputError if the `.tflite` cannot be tuned."""
    KerasNetwork(tflite.read(model))


def augmented(x: Floats, rng: np.random.Generator) -> Floats:
    """Images (n, h, w, c), c 3 or 4, mirrored and moved by chance; some of any samples mixed with others."""
    if x.ndim == 4 and x.shape[3] in (3, 4) and min(x.shape[1:3]) > 2 * SHIFT:
        x = np.where((rng.random(len(x)) < MIRRORED)[:, None, None, None], x[:, :, ::-1], x)
        padded = np.pad(x, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="reflect")
        windows = sliding_window_view(padded, x.shape[1:3], axis=(1, 2))
        down, right = rng.integers(0, 2 * SHIFT + 1, (2, len(x)))
        x = windows[np.arange(len(x)), down, right].transpose(0, 2, 3, 1)
    share = np.where(rng.random(len(x)) < MIXED, rng.random(len(x)), 1).astype(np.float32)
    share = share.reshape(-1, *[1] * (x.ndim - 1))
    return np.ascontiguousarray(share * x + (1 - share) * x[rng.permutation(len(x))])


def _last(chosen: Mapping[int, Option]) -> list[int]:
    """The numbers of the last layers: as few as have TUNED_SHARE of the bytes."""
    last: list[int] = []
    least = TUNED_SHARE * sum(option.size for option in chosen.values())
    for number in sorted(chosen, reverse=True):
        if sum(chosen[each].size for each in last) < least:
            last.insert(0, number)
    return last


def _tunable(option: Option) -> bool:
    return option.codec == "grid" and option.scales is not None and option.scales.size == 1


def _bytes(chosen: Mapping[int, Option]) -> float:
    return sum(option.size for option in chosen.values())


def _shift(option: Option) -> NDArray[np.float64] | float:
    return 0.0 if option.shift is None else option.shift


def _rounded(values: Array) -> Array:
    return values.round().clip(-LARGEST, LARGEST)


def _counts(levels: Floats) -> NDArray[np.int64]:
    return np.bincount((levels + LARGEST).astype(np.intp).ravel(), minlength=2 * LARGEST + 1)


def _entropy(levels: Floats) -> float:
    """Bits of all levels."""
    counts = _counts(levels)
    counts = counts[counts > 0]
    return float((counts * np.log2(counts.sum() / counts)).sum())


def _table(levels: Floats) -> NDArray[np.float64]:
    """Bits of each level -127..127 by its frequency, mixed with a geometric law of the same mean size."""
    sizes = np.abs(np.arange(-LARGEST, LARGEST + 1))
    mean = float(np.abs(levels).mean()) + 1e-3
    ratio = mean / (1 + mean)
    law = (1 - ratio) / (1 + ratio) * ratio**sizes
    counts = _counts(levels)
    return np.asarray(-np.log2((counts + PRIOR * law + 1e-9) / (counts.sum() + PRIOR)))


def _paid(values: Array, prices: Array) -> Array:
    """For values between levels, on the line between the prices of the two."""
    inside = ops.clip(values, -LARGEST + 0.01, LARGEST - 0.01)
    below = jax.lax.stop_gradient(ops.floor(inside))
    share = inside - below
    at = ops.cast(below + LARGEST, "int32")
    return ops.sum(ops.take(prices, at) * (1 - share) + ops.take(prices, at + 1) * share)


def _folder() -> Path:
    return sources.folder().with_name("tunings")
