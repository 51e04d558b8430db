"""Quantize a float32 network to int8 (ai-edge-quantizer): int8 activations, per-channel int8 weights."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from . import tflite
from .tflite import Model, ModelError, Operator, Signature, Subgraph

SIGNATURE = "serving_default"

Progress = Callable[[int, int], None]


def quantize(
    data: bytes, samples: NDArray[np.float32], progress: Progress | None = None
) -> bytes:
    """A fully int8 `.tflite` (int8 inputs and outputs) of a float32 one.

    `samples` are calibration samples in the model's real units, float32, [n, ...] with the input's shape
    (its batch axis may be left out); `progress(done, n)` is called after each of them. Raises ModelError
    when the model or the samples do not fit, or when the quantizer fails.
    """
    model = tflite.read(data)
    if len(model.inputs) != 1:
        raise ModelError(f"the model has {len(model.inputs)} inputs; regrow quantizes models with one")
    source = model.tensors[model.inputs[0]]
    if not len(samples) or samples.size != len(samples) * math.prod(source.shape):
        raise ModelError(
            f"the calibration samples have shape {list(samples.shape)}; the model takes {list(source.shape)}"
        )
    model = _with_signature(model)
    name = next(iter(model.signatures[0].inputs))
    samples = samples.astype(np.float32, copy=False).reshape(-1, *source.shape)
    with _silence():
        try:
            result = _quantize(tflite.build(model), name, samples, progress)
        except Exception as error:  # the quantizer raises errors of every kind
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"ai-edge-quantizer could not quantize the model to int8: {reason}") from error
    return tflite.build(strip_ends(tflite.read(result)))


def _with_signature(model: Model) -> Model:
    """The quantizer calibrates by a signature, which many models do not have."""
    inputs = {f"input_{i}": index for i, index in enumerate(model.inputs)}
    outputs = {f"output_{i}": index for i, index in enumerate(model.outputs)}
    return replace(model, signatures=[Signature(SIGNATURE, 0, inputs, outputs)])


def _quantize(data: bytes, name: str, samples: NDArray[np.float32], progress: Progress | None) -> bytes:
    # Imported here: it takes a second, and only a float model for a board needs it.
    from ai_edge_quantizer import calibrator, quantizer, recipe, recipe_manager  # type: ignore[import-untyped]
    from ai_edge_quantizer.utils import qsv_utils  # type: ignore[import-untyped]

    rules = recipe_manager.RecipeManager()
    rules.load_quantization_recipe(recipe.static_wi8_ai8())
    ranges = calibrator.Calibrator(data, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    for i, sample in enumerate(samples):
        ranges.calibrate({SIGNATURE: [{name: sample}]}, rules)
        if progress:
            progress(i + 1, len(samples))
    worker = quantizer.Quantizer(data, rules.get_quantization_recipe())
    result = worker.quantize(ranges.get_model_qsvs(), enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Neither log lines, warnings nor progress bars of the quantizer reach the user."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def strip_ends(model: Model) -> Model:
    """Take away QUANTIZE operators at the inputs and DEQUANTIZE operators at the outputs.

    The result has integer inputs and outputs. An end that feeds something else as well stays.
    """
    graph = model.subgraphs[0]
    graph = _strip(graph, "QUANTIZE", at_input=True)
    graph = _strip(graph, "DEQUANTIZE", at_input=False)
    return replace(model, subgraphs=[graph, *model.subgraphs[1:]], signatures=[])


def _strip(graph: Subgraph, name: str, at_input: bool) -> Subgraph:
    ends = list(graph.inputs if at_input else graph.outputs)
    operators = list(graph.operators)
    for operator in graph.operators:
        outer, inner = operator.inputs[:1], operator.outputs[:1]
        if not at_input:
            outer, inner = inner, outer
        if operator.name == name and outer[0] in ends and _users(operators, outer[0], at_input) == [operator]:
            ends[ends.index(outer[0])] = inner[0]
            operators.remove(operator)
    inputs, outputs = (tuple(ends), graph.outputs) if at_input else (graph.inputs, tuple(ends))
    return replace(graph, operators=operators, inputs=inputs, outputs=outputs)


def _users(operators: list[Operator], tensor: int, at_input: bool) -> list[Operator]:
    """The operators that read the tensor, at an output those that read or write it."""
    return [op for op in operators if tensor in op.inputs or (not at_input and tensor in op.outputs)]
