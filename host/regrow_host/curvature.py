"""Round the weights of a network by how far its outputs move, not how far each layer's outputs do.

This is GPTQ (`gptq`) with other moments: those of the outputs' derivatives by the weights of a row, over
samples and random combinations of outputs, so the row's Gauss-Newton matrix (Martens, New Insights and
Perspectives on the Natural Gradient Method, 2020). Errors that later layers average away cost nothing then.
Probabilities are softened by as much as the source's logits spread: samples that the source is sure of would
say nothing, and the few others be fitted too closely.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrow_host import gptq, options, rounding, tflite
from regrow_host.kerasnet import PADDINGS, Array, KerasNetwork
from regrow_host.options import Layer, Option
from regrow_host.tflite import WeightTensor

import jax  # isort: skip
import jax.numpy as jnp  # isort: skip - kerasnet chose Keras' backend

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

SAMPLES, CHUNK = 2048, 128
EFFORT = 1 << 39
"""Products that the moments of one layer may take, nearly: where they take more, fewer samples are seen."""
FEWEST = 256
MOST_MOMENTS = MOST_TAKEN = 1 << 25
"""Moments, and values that rows take, which are computed at a time."""
PLAIN = 0.1
"""Share of the moments of what the rows take, which more samples tell."""
SMALLEST = 1e-3
"""Of a layer's mean, what rows count as at least."""
RIDGE, DAMPING = 0.1, 0.01
"""In units of the mean of the moments' diagonals."""


class Curvature:
    """Rounds the layers of a float32 model on samples x (n, *input shape without batch), in real units."""

    def __init__(
        self, model: tflite.Model, network: KerasNetwork, x: Floats, *, classifier: bool, seed: int
    ) -> None:
        self._model, self._network = model, network
        self._classifier = classifier
        self._effort = rounding.effort(model)
        self._x = x[:SAMPLES]
        call = jax.jit(lambda each: self._network(each, {}, logits=True).reshape(len(each), -1))
        chunks = [self._x[start : start + CHUNK] for start in range(0, len(self._x), CHUNK)]
        self._outputs = np.concatenate([np.asarray(call(each)) for each in chunks])
        self._signs = np.random.default_rng(seed).choice(np.array([-1, 1], np.float32), self._outputs.shape)

    def rounded(
        self, layers: Mapping[int, Layer], chosen: Mapping[int, Option], done: Callable[[int], None]
    ) -> dict[int, Option]:
        """The chosen options, other levels where there are some with one step; each layer is rounded on what
        the rounded layers before it give. `done(count)` is called after each layer.
        """
        given: dict[int, Array] = {}
        found = dict(chosen)
        for weights in tflite.weight_tensors(self._model):
            option = found[weights.number]
            place = tflite.bias_of(self._model, weights)
            if option.codec == "grid" and option.scales is not None and option.scales.size == 1:
                option = self._layer(layers[weights.number], weights, option, given)
                found[weights.number] = option
            given[weights.tensor] = option.values.reshape(weights.shape)
            if place >= 0:
                shift = 0 if option.shift is None else option.shift
                given[place] = np.asarray(self._bias(place) + shift, np.float32)
            done(weights.number + 1)
        return found

    def _bias(self, place: int) -> Doubles:
        data = self._model.tensors[place].data
        assert data is not None
        return np.asarray(data, np.float64)

    def _layer(
        self, layer: Layer, weights: WeightTensor, option: Option, given: Mapping[int, Array]
    ) -> Option:
        place = tflite.bias_of(self._model, weights)
        if place < 0 or not self._divisible(weights):
            return option
        assert option.scales is not None
        values = gptq.rows(weights.values.astype(np.float64), weights)
        levels = np.empty(values.shape, np.int8)
        shift = np.empty(len(values))
        size = max(1, MOST_MOMENTS // values.shape[1] ** 2)
        for start in range(0, len(values), size):
            rows = slice(start, min(start + size, len(values)))
            source = np.c_[values[rows], self._bias(place)[rows]]
            moments = self._moments(weights, rows, source, given)
            levels[rows], bias = _fit(source, float(option.scales[0]), *moments)
            shift[rows] = bias - source[:, -1]
        return options.gridded(layer, gptq.unrows(levels, weights), option.scales, shift)

    def _divisible(self, weights: WeightTensor) -> bool:
        """Whether it is a plain product of rows with what `_taken` gives."""
        operator = self._model.operators[weights.operator]
        if operator.name == "CONV_2D":
            return weights.shape[3] == self._model.tensors[operator.inputs[0]].shape[3]
        return operator.name in ("DEPTHWISE_CONV_2D", "FULLY_CONNECTED")

    def _moments(
        self, weights: WeightTensor, rows: slice, source: Doubles, given: Mapping[int, Array]
    ) -> tuple[Doubles, Doubles]:
        """What changes of the rows `source` (count, k + 1 with the bias) cost, (count, k + 1, k + 1), and
        the slope of what they cost already, as their inputs are not the source's, (count, k + 1).
        """
        k = source.shape[1]
        products = 2 * max(len(source) * k**2, self._effort)
        samples = min(len(self._x), max(FEWEST, int(EFFORT / products)))
        shape = self._model.tensors[self._model.operators[weights.operator].outputs[0]].shape
        taken = math.prod(shape[1:-1]) * k * (len(source) if weights.kind == "depthwise" else 1)
        size = max(1, min(CHUNK, MOST_TAKEN // taken))
        compute = jax.jit(partial(self._of, weights, rows, given))
        everything = self._x[:samples], self._outputs[:samples], self._signs[:samples]
        total: list[Floats] = []
        for start in range(0, samples, size):
            chunk = tuple(each[start : start + size] for each in everything)
            # XLA multiplies many small matrices slowly.
            found = _products(source.astype(np.float32), *map(np.asarray, compute(chunk)))
            total = [a + b for a, b in zip(total, found, strict=True)] if total else found
        now, slopes, plain, plain_slopes = (each.astype(np.float64) for each in total)
        sizes = np.einsum("okk->o", now)
        scale = np.maximum(sizes, SMALLEST * sizes.mean()) / np.einsum("okk->o", plain)
        return (
            (1 - PLAIN) * now + (PLAIN * scale)[:, None, None] * plain,
            (1 - PLAIN) * slopes + (PLAIN * scale)[:, None] * plain_slopes,
        )

    def _of(
        self, weights: WeightTensor, rows: slice, given: Mapping[int, Array], samples: tuple[Array, ...]
    ) -> tuple[Array, Array, Array]:
        """For inputs, the source's outputs and signs: the derivatives (n, places, rows) of combined outputs
        by what the rows give, and what these take, now and in the source (n, places, rows or 1, k + 1).
        """
        x, outputs, signs = samples
        operator = self._model.operators[weights.operator]
        place, source = tflite.bias_of(self._model, weights), operator.inputs[0]
        state = self._network.reach(weights.operator, x, given)
        now = self._taken(weights, state[source])
        before = self._taken(weights, self._network.reach(weights.operator, x, {})[source])
        if weights.kind == "depthwise":
            now, before = now[:, :, rows], before[:, :, rows]
        bias = jnp.zeros((len(x), *self._model.tensors[operator.outputs[0]].shape[1:])) + self._bias(place)
        if operator.name == "FULLY_CONNECTED":
            bias = bias.reshape(-1, weights.channels)

        def finish(bias: Array) -> Array:
            changed = {**given, place: bias.astype(jnp.float32)}
            return self._network.finish(weights.operator, state, changed, logits=True).reshape(len(x), -1)

        _, back = jax.vjp(finish, bias.astype(jnp.float32))
        slopes = back(self._combined(outputs, signs))[0]
        return slopes.reshape(len(x), -1, weights.channels)[..., rows], now, before

    def _combined(self, outputs: Array, signs: Array) -> Array:
        """Random combinations of outputs whose squares are the distance on average, (n, outputs)."""
        if not self._classifier or outputs.shape[1] == 1:
            return signs
        centred = self._outputs - self._outputs.mean(axis=1, keepdims=True)
        p = jax.nn.softmax(outputs / max(1.0, float(centred.std())))
        scaled = jnp.sqrt(p) * signs
        return scaled - p * scaled.sum(axis=-1, keepdims=True)

    def _taken(self, weights: WeightTensor, x: Array) -> Array:
        """What the rows of a layer are multiplied with, and 1 for the bias: (n, places, rows or 1, k + 1)."""
        operator = self._model.operators[weights.operator]
        if operator.name == "FULLY_CONNECTED":
            taken = x.reshape(len(x), -1, 1, weights.shape[1])
        else:
            windows = _windows(x, weights, operator.options)
            if weights.kind == "depthwise":
                windows = windows.transpose(0, 1, 3, 2)
                taken = jnp.repeat(windows, weights.channels // x.shape[3], axis=2)
            else:
                taken = windows.reshape(*windows.shape[:2], 1, -1)
        return jnp.concatenate([taken, jnp.ones((*taken.shape[:3], 1))], axis=3)


def _windows(x: Array, weights: WeightTensor, options: Any) -> Array:
    """(n, places, kh * kw, channels)."""
    strides = options.strideH, options.strideW
    dilations = options.dilationHFactor, options.dilationWFactor
    size = weights.shape[1:3]
    spans = [(length - 1) * dilation + 1 for length, dilation in zip(size, dilations, strict=True)]
    pads = jax.lax.padtype_to_pads(x.shape[1:3], spans, strides, PADDINGS[options.padding].upper())
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    ends = [length - span for length, span in zip(padded.shape[1:3], spans, strict=True)]
    found = []
    for row in range(0, spans[0], dilations[0]):
        for column in range(0, spans[1], dilations[1]):
            rows = slice(row, row + ends[0] + 1, strides[0])
            found.append(padded[:, rows, column : column + ends[1] + 1 : strides[1]])
    stacked = jnp.stack(found, axis=3)
    return stacked.reshape(len(x), -1, *stacked.shape[3:])


def _products(source: Floats, slopes: Floats, now: Floats, before: Floats) -> list[Floats]:
    """What samples add to the moments (rows, k + 1, k + 1) of derivatives by the rows and to the slope of
    their distance (rows, k + 1); and to the same for what the rows themselves give.
    """
    taken = now.transpose(2, 0, 1, 3)  # (rows or 1, n, places, k + 1)
    moved = (
        slopes.transpose(2, 0, 1)[:, :, None] @ taken
        if len(taken) > 1
        else slopes.transpose(0, 2, 1) @ taken[0]
    )
    moved = moved[:, :, 0] if len(taken) > 1 else np.ascontiguousarray(moved.transpose(1, 0, 2))
    lost = (before - now).transpose(2, 0, 1, 3)
    lost = (
        np.einsum("onpk,ok->onp", lost, source) if len(lost) > 1 else (lost[0] @ source.T).transpose(2, 0, 1)
    )
    missing = np.einsum("npo,onp->on", slopes, lost)
    flat = taken.reshape(len(taken), -1, taken.shape[3])
    plain = flat.transpose(0, 2, 1) @ flat
    plain_slopes = lost.reshape(len(lost), 1, -1) @ flat
    return [moved.transpose(0, 2, 1) @ moved, (missing[:, None] @ moved)[:, 0], plain, plain_slopes[:, 0]]


def _fit(source: Doubles, step: float, now: Doubles, slopes: Doubles) -> tuple[Doubles, Doubles]:
    """Levels (rows, k) and biases (rows,) for rows (rows, k + 1 with the bias) whose changes cost `now`, and
    which already cost something, that falls along the slopes.
    """
    k = source.shape[1] - 1
    unit = np.einsum("okk->ok", now)[:, :k].mean(axis=1)[:, None, None] + gptq.TINY
    eye = np.diag([*[1.0] * k, SMALLEST])
    wanted = source + np.linalg.solve(now + RIDGE * unit * eye, slopes[:, :, None])[:, :, 0]
    damped = now + DAMPING * unit * eye
    # What is left once the bias has made up for what it can (the Schur complement).
    shares = damped[:, :k, k] / damped[:, k:, k]
    left = damped[:, :k, :k] - shares[:, :, None] * damped[:, None, k, :k]
    levels = gptq.levels_by_moments(wanted[:, None, :k], step, left)[:, 0]
    return levels, wanted[:, k] - np.einsum("ok,ok->o", shares, step * levels - wanted[:, :k])
