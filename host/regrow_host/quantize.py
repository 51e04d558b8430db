"""Quantize a float32 network to int8 (ai-edge-quantizer): per-channel weights, ranges of least error, and
channels scaled where that makes outputs closer (`equalize`)."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from regrow.errors import BackendError

from . import ranges, tflite
from .equalize import equalize
from .lower import strip_ends
from .runner import Runner
from .tflite import Model, ModelError, Operator, Signature

SIGNATURE = "serving_default"

LEFT = "LEAKY_RELU", "RELU6", "RELU_N1_TO_1"

LARGEST_BIAS = 1 << 28  # leaves room in 32 bits for the products that are added to it

PASSES = 3
WORTH = 0.5
"""Of the error, that scaling channels must leave at most: it may cost a few bytes."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Quantized:
    """A float network, and the int8 one with the weights of it."""

    floats: bytes
    integers: bytes


def best(data: bytes, samples: NDArray[np.float32], progress: Progress | None = None) -> Quantized:
    """A float network quantized as it is, or equalized where that at least halves the error of its outputs.

    Its weights keep their types. `samples`, `progress` and what is raised are as with `quantize`; n is that
    of all passes.
    """
    total = PASSES * len(samples)

    def passed(number: int) -> Callable[[int], None]:
        return lambda done: progress(number * len(samples) + done, total) if progress else None

    plain = Quantized(data, quantize(data, samples, lambda done, _: passed(0)(done)))
    source = tflite.read(data)
    wide = tflite.to_float32(source)
    model = tflite.read(wide)
    x = samples.astype(np.float32, copy=False).reshape(-1, *model.tensors[model.inputs[0]].shape)
    with silence():
        scaled = equalize(model, ranges.peaks(model, wide, x, passed(1)))
    integers = quantize(tflite.build(scaled), samples, lambda done, _: passed(2)(done))
    other = Quantized(tflite.build(tflite.with_constants(source, scaled)), integers)
    outputs = Runner(data)(samples)

    def error(network: bytes) -> float:
        try:
            return float(np.nan_to_num(np.square(Runner(network)(samples) - outputs), nan=np.inf).mean())
        except BackendError:  # units so far apart that LiteRT refuses them
            return np.inf

    better = error(other.floats) + error(other.integers) <= error(plain.integers) * WORTH
    return other if better else plain


def quantize(data: bytes, samples: NDArray[np.float32], progress: Progress | None = None) -> bytes:
    """A fully int8 `.tflite` (int8 inputs and outputs) of a float one, whatever its weights are kept in.

    `samples` are calibration samples in the model's real units, float32, [n, ...] with the input's shape
    (its batch axis may be left out); `progress(done, n)` is called after each of them. Raises ModelError
    when the model or the samples do not fit, or when the quantizer fails.
    """
    model = tflite.read(data)
    if tflite.precision(model) in ("int8", "other"):
        raise ModelError("the model works on integers already, so it cannot be quantized to int8")
    model = tflite.read(tflite.to_float32(model))
    if len(model.inputs) != 1:
        raise ModelError(f"the model has {len(model.inputs)} inputs; regrow quantizes models with one")
    source = model.tensors[model.inputs[0]]
    if not len(samples) or samples.size != len(samples) * math.prod(source.shape):
        raise ModelError(
            f"the calibration samples have shape {list(samples.shape)}; the model takes {list(source.shape)}"
        )
    model = _with_signature(tflite.without_unused_tensors(model))
    name = next(iter(model.signatures[0].inputs))
    samples = samples.astype(np.float32, copy=False).reshape(-1, *source.shape)
    with silence():
        try:
            result = _quantize(tflite.build(model), name, samples, progress)
        except Exception as error:  # the quantizer raises errors of every kind
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"ai-edge-quantizer could not quantize the model to int8: {reason}") from error
    return tflite.build(_with_fitting_biases(model, strip_ends(_on_integers(tflite.read(result)))))


def _with_signature(model: Model) -> Model:
    """The quantizer calibrates by a signature, which many models do not have."""
    inputs = {f"input_{i}": index for i, index in enumerate(model.inputs)}
    outputs = {f"output_{i}": index for i, index in enumerate(model.outputs)}
    return replace(model, signatures=[Signature(SIGNATURE, 0, inputs, outputs)])


def _quantize(data: bytes, name: str, samples: NDArray[np.float32], progress: Progress | None) -> bytes:
    # Imported here: it takes a second, and only a float model for a board needs it.
    from ai_edge_quantizer import (  # type: ignore[import-untyped]  # noqa: PLC0415
        calibrator,
        quantizer,
        recipe,
        recipe_manager,
    )
    from ai_edge_quantizer.utils import qsv_utils  # type: ignore[import-untyped]  # noqa: PLC0415

    rules = recipe_manager.RecipeManager()
    rules.load_quantization_recipe(recipe.static_wi8_ai8())
    # One sample lets the calibrator find the tensors that it wants ranges of.
    wanted = calibrator.Calibrator(data, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    wanted.calibrate({SIGNATURE: [{name: samples[0]}]}, rules)
    found = wanted.get_model_qsvs()
    model = tflite.read(data)
    report = (lambda done: progress(done, len(samples))) if progress else lambda _: None
    for index, (low, high) in ranges.measure(model, data, samples, report).items():
        qsv = found.get(model.tensors[index].name)
        if qsv:
            qsv["min"], qsv["max"] = (
                np.full_like(qsv[key], value) for key, value in (("min", low), ("max", high))
            )
    worker = quantizer.Quantizer(data, rules.get_quantization_recipe())
    result = worker.quantize(found, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def _on_integers(result: Model) -> Model:
    """The quantizer leaves the functions of LEFT in float32, between DEQUANTIZE and QUANTIZE: they take and
    give the integers on the other sides of these."""
    operators = list(result.operators)
    for function in [each for each in operators if each.name in LEFT]:
        before = [each for each in operators if function.inputs[0] in each.outputs]
        behind = [each for each in operators if function.outputs[0] in each.inputs]
        names = {each.name for each in behind} | {each.name.removeprefix("DE") for each in before}
        if not before or names != {"QUANTIZE"} or function.outputs[0] in result.outputs:
            continue
        place = operators.index(function)
        operators[place : place + 1] = [
            replace(function, inputs=before[0].inputs, outputs=each.outputs) for each in behind
        ]
        operators = [each for each in operators if all(each is not other for other in behind)]
    used = {i for each in operators for i in each.inputs} | set(result.outputs)
    kept = [each for each in operators if used.intersection(each.outputs)]
    return replace(result, subgraphs=[replace(result.subgraphs[0], operators=kept), *result.subgraphs[1:]])


def _with_fitting_biases(source: Model, result: Model) -> Model:
    """The int8 model with wider weight scales in channels whose bias the quantizer has cut off.

    A bias counts in units of input scale * weight scale, so a channel of (nearly) no weights, whose scale is
    tiny, has no room for it. `source` is the float32 model that `result` was made from.
    """
    for real, layer in zip(_layers(source), _layers(result), strict=True):
        if layer.layer_inputs[2] < 0:
            continue
        bias, values = (source.tensors[real.layer_inputs[i]].real() for i in (2, 1))
        x, weights = (result.tensors[i] for i in layer.layer_inputs[:2])
        needed = (np.abs(bias) / (x.scales[0] * LARGEST_BIAS)).astype(np.float32)
        if len(weights.scales) != len(bias) or not (needed > weights.scales).any():
            continue
        weights.scales = np.maximum(weights.scales, needed)
        along = [-1 if axis == weights.axis else 1 for axis in range(values.ndim)]
        weights.data = np.clip(np.rint(values / weights.scales.reshape(along)), -127, 127).astype(np.int8)
        tensor = result.tensors[layer.layer_inputs[2]]
        tensor.scales = x.scales[0] * weights.scales
        tensor.data = np.rint(bias / tensor.scales.astype(np.float64)).astype(np.int32)
    return result


def _layers(model: Model) -> list[Operator]:
    return [operator for operator in model.operators if operator.name in tflite.WEIGHT_OPERATORS]


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Neither log lines, warnings nor progress bars of the quantizer reach the user."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
