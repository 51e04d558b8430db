"""Tune rounded weights against the source network on unlabelled samples, with their bytes in the loss.

Levels are rounded from real numbers in every pass and trained straight through (Bengio, Leonard and
Courville, 2013), with the step of each layer (Esser et al., Learned Step Size Quantization, 2020) and the
biases. The loss is how far outputs move from the source's (Hinton, Vinyals and Dean, 2015) plus a price for
each bit of the levels' entropy; the price follows the bytes, which go down to the wanted ones over the first
half of the steps.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from regrow_host import options, sources, tflite
from regrow_host.kerasnet import Array, KerasNetwork
from regrow_host.options import Layer, Option

import jax  # isort: skip
import keras  # isort: skip - kerasnet chose its backend
from keras import ops  # isort: skip

Floats = NDArray[np.float32]

STEPS, BATCH = 1500, 64
LEVEL_RATE, STEP_RATE, BIAS_RATE = 0.003, 0.001, 0.001
"""How far a step of training moves at most, nearly: in levels, in octaves, in mean absolute biases."""
WARM_UP = 100
FALL = 0.5
"""Of the steps, in which the bytes go down to the wanted ones."""
FIRST_PRICE = 2e-6
PRICE_EVERY, PRICE_GAIN, PRICE_MOST = 10, 3.0, 0.2
SAVE_EVERY = 200
LARGEST = 127
NEAR = 0.45
"""How far from its level a weight begins at most: within half a step it is rounded to the level again."""
PRIOR = 3.0
"""Levels' worth of a geometric law in the frequencies, so that every level has a price."""
MIRRORED = 0.5
"""Share of images that are mirrored left to right."""
SHIFT = 2
"""Pixels that a batch of images moves at most."""


class State(NamedTuple):
    """All that a step of training changes. `moves` are what is added to what training began with, in units
    of the rates; `tables` (layers, levels) the bits of each level.
    """

    moves: list[Array]
    optimizer: list[Array]
    tables: Floats
    price: float
    done: int


class Tuning:
    """Tunes those of the chosen options that are levels with one step; the others stay as they are.

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
        share: float,
        *,
        classifier: bool,
        steps: int,
        seed: int = 0,
    ) -> None:
        self._model = tflite.read(model)
        self._network = KerasNetwork(self._model)
        self._x = x
        self._layers, self._chosen = layers, dict(chosen)
        self._classifier, self._seed = classifier, seed
        self._weights = {each.number: each for each in tflite.weight_tensors(self._model)}
        self._tuned = [number for number, option in chosen.items() if _tunable(option)]
        self._steps = steps if self._tuned else 0
        self._begin()
        self._start = self._size()
        self._wanted = share * self._start
        self._file = _folder() / self._digest(model, share)
        self._source = jax.jit(lambda x: self._network(x, {}, logits=True))
        self._step = jax.jit(self._trained)

    def _begin(self) -> None:
        """Levels and logarithms of steps of each tuned layer, then the biases of all."""
        levels, log_steps = [], []
        self._fixed: dict[int, Floats] = {}
        self._biases: dict[int, Floats] = {}
        for number, option in self._chosen.items():
            weights = self._weights[number]
            place = tflite.bias_of(self._model, weights)
            if place >= 0:
                shift = 0 if option.shift is None else option.shift
                self._biases[number] = np.asarray(self._bias(number) + shift, np.float32)
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
        self._state = State([each.value for each in moves], optimizer, tables, FIRST_PRICE, 0)

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

    def run(self, step: Callable[[int], None] = lambda done: None) -> None:
        """Go on to the last step; `step(done)` is called after each. KeyboardInterrupt saves and passes."""
        self._load()
        try:
            while self.done < self._steps:
                self._train()
                step(self.done)
                if self.done % SAVE_EVERY == 0 or self.done == self._steps:
                    self._save()
        except KeyboardInterrupt:
            self._save()
            raise

    def options(self) -> dict[int, Option]:
        """What has become of the chosen options; those that are not tuned gain tuned biases only."""
        levels, log_steps, biases = self._split(self._values(self._state.moves))
        shifts = {
            number: np.asarray(bias, np.float64) - self._bias(number)
            for number, bias in zip(self._biases, biases, strict=True)
        }
        found = {number: replace(option, shift=shifts.get(number)) for number, option in self._chosen.items()}
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

    def _train(self) -> None:
        if self.done % PRICE_EVERY == 0:
            self._follow()
        state = self._state
        rng = np.random.default_rng((self._seed, state.done))
        x = augmented(self._x[rng.choice(len(self._x), min(BATCH, len(self._x)), replace=False)], rng)
        prices = np.float32(state.price) * state.tables
        moves, optimizer = self._step(state.moves, state.optimizer, x, self._source(x), prices)
        self._state = state._replace(moves=moves, optimizer=optimizer, done=state.done + 1)

    def _trained(
        self, moves: list[Array], optimizer: list[Array], x: Array, wanted: Array, prices: Array
    ) -> tuple[list[Array], list[Array]]:
        """Moves and the optimizer's variables after a step, where each level of a layer has its price."""

        def loss(moves: list[Array]) -> Array:
            values = self._values(moves)
            given = self._network(x, self._given(values), logits=True)
            paid = sum(_paid(*each) for each in zip(self._split(values)[0], prices, strict=True))
            return self._distance(wanted, given) + paid

        gradients = jax.grad(loss)(moves)
        moves, optimizer = self._adam.stateless_apply(optimizer, gradients, moves)
        return list(moves), list(optimizer)

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
        """Take the levels' frequencies anew, and a price that brings their bytes to the wanted ones."""
        share = min(1.0, self.done / self._steps / FALL)
        goal = self._start + (self._wanted - self._start) * share
        change = PRICE_GAIN * (self._size() / goal - 1)
        price = self._state.price * math.exp(max(-PRICE_MOST, min(PRICE_MOST, change)))
        tables = np.array([_table(each) for each in self._levels()], np.float32)
        self._state = self._state._replace(tables=tables, price=price)

    def _levels(self) -> list[Floats]:
        return [_rounded(np.asarray(each)) for each in self._split(self._values(self._state.moves))[0]]

    def _size(self) -> float:
        """Bytes of the tuned levels by their entropy."""
        return sum(map(_entropy, self._levels())) / 8 + 1

    def _digest(self, model: bytes, share: float) -> str:
        digest = sha256(model)
        digest.update(self._x.tobytes())
        for each in self._first:
            digest.update(each.tobytes())
        versions = keras.__version__, jax.__version__
        digest.update(repr((share, self._classifier, self._steps, self._seed, versions)).encode())
        return digest.hexdigest() + ".npz"

    def _save(self) -> None:
        """As this is a cache, a full disk is no failure."""
        state = self._state
        kept = [*state.moves, *state.optimizer]
        arrays: dict[str, Any] = {f"array{i}": np.asarray(each) for i, each in enumerate(kept)}
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._file.with_suffix(".tmp")
            with temporary.open("wb") as file:
                np.savez(file, tables=state.tables, price=state.price, done=state.done, **arrays)
            temporary.replace(self._file)
        except OSError:
            return

    def _load(self) -> None:
        try:
            with np.load(self._file) as saved:
                arrays = [saved[f"array{i}"] for i in range(len(saved.files) - 3)]
                count = len(self._first)
                figures = float(saved["price"]), int(saved["done"])
                self._state = State(arrays[:count], arrays[count:], saved["tables"], *figures)
        except (OSError, ValueError, EOFError, KeyError, BadZipFile):
            return


def check(model: bytes) -> None:
    """Raises InputError if the `.tflite` cannot be tuned."""
    KerasNetwork(tflite.read(model))


def augmented(x: Floats, rng: np.random.Generator) -> Floats:
    """Images (n, h, w, c), c 3 or 4, mirrored and moved by chance; any other samples as they are."""
    if x.ndim != 4 or x.shape[3] not in (3, 4) or min(x.shape[1:3]) <= 2 * SHIFT:
        return x
    x = np.where((rng.random(len(x)) < MIRRORED)[:, None, None, None], x[:, :, ::-1], x)
    down, right = rng.integers(0, 2 * SHIFT + 1, 2)
    padded = np.pad(x, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="reflect")
    return np.asarray(padded[:, down : down + x.shape[1], right : right + x.shape[2]])


def _tunable(option: Option) -> bool:
    return option.codec == "grid" and option.scales is not None and option.scales.size == 1


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
