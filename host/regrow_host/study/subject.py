"""A model under study with the samples that judge it, and what its accuracy is when weights change."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]
from numpy.typing import NDArray
from regrow.errors import InputError, RegrowError

from regrow_host import data, metrics, tflite
from regrow_host.data import Samples
from regrow_host.judge import CHUNK, Judge
from regrow_host.runner import Runner
from regrow_host.study import cache, datasets
from regrow_host.study.models import Spec
from regrow_host.tflite import WeightTensor

Floats = NDArray[np.float32]

TRAINED = Path(__file__).parent / "trained"
"""The small models, which come with regrow."""
MOST_SAMPLES = 2000
LARGEST = 1e15
"""That changed weights may give: its square is still a number."""
BATCH = CHUNK
"""Samples that LiteRT computes together where the network allows it."""


@dataclass(frozen=True)
class Subject:
    """A float32 `.tflite` and two sets of labelled samples: one for searches, one that judges what they find.

    `batch` says how many samples go through the network together, `source` where the samples are from.
    """

    name: str
    model: bytes
    metric: str
    searching: Judge
    held_out: Judge
    batch: int
    source: str = ""

    def __reduce__(self) -> Any:
        """Only the fields travel to workers, not what follows from them."""
        return Subject, tuple(getattr(self, each.name) for each in fields(self))

    @cached_property
    def digest(self) -> str:
        """Of all that results follow from."""
        whole = hashlib.sha256(self.model)
        for judge in (self.searching, self.held_out):
            x = judge.samples.x
            whole.update(f"{self.metric} {self.batch} {x.dtype} {x.shape}".encode())
            whole.update(np.ascontiguousarray(x).tobytes() + np.ascontiguousarray(judge.labels).tobytes())
        return whole.hexdigest()

    @cached_property
    def layers(self) -> list[WeightTensor]:
        return tflite.weight_tensors(tflite.read(self.model))

    @cached_property
    def _starts(self) -> dict[int, int]:
        model = tflite.read(self.model)
        buffers = {each.number: model.tensors[each.tensor].buffer for each in self.layers}
        return {number: buffer[0] for number, buffer in buffers.items() if buffer}

    def select(self, which: str) -> list[WeightTensor]:
        """Layers of a kind: `dense`, `conv` (all that are not dense) or `all`."""
        return [
            each for each in self.layers if which == "all" or (which == "dense") == (each.kind == "dense")
        ]

    @property
    def selections(self) -> list[str]:
        """The kinds of layers that the model has; `all` where it has both."""
        kinds = [which for which in ("dense", "conv") if self.select(which)]
        return [*kinds, "all"] if len(kinds) > 1 else kinds

    def with_weights(self, changes: Mapping[int, Floats]) -> bytes:
        """The `.tflite` with other weights, by the layers' numbers."""
        changed = bytearray(self.model)
        for number, values in changes.items():
            start, raw = self._starts[number], values.astype("<f4").tobytes()
            changed[start : start + len(raw)] = raw
        return bytes(changed)

    def accuracy(self, changes: Mapping[int, Floats]) -> dict[str, float]:
        """Percent (AUC * 100) with other weights: on the `searching` samples, the `held_out` ones and on
        all (`accuracy`)."""
        return self.judge(self.with_weights(changes))

    def judge(self, model: bytes) -> dict[str, float]:
        """The same of a whole `.tflite` in place of the model."""
        predict = Predictor(model, self.batch)
        searching, held_out = (
            judge.scores(judge.outputs(predict)) for judge in (self.searching, self.held_out)
        )
        y = [self.searching.labels, self.held_out.labels]
        figures = {
            "searching": metrics.figure(self.metric, searching, y[0]),
            "held_out": metrics.figure(self.metric, held_out, y[1]),
            "accuracy": metrics.figure(self.metric, np.concatenate([searching, held_out]), np.concatenate(y)),
        }
        return {key: 100 * figure for key, figure in figures.items()}

    @property
    def chance(self) -> float:
        """Percent that one and the same answer for every sample reaches at best."""
        if self.metric == "auc":
            return 50.0
        y = np.concatenate([self.searching.labels, self.held_out.labels])
        return 100 * float(np.bincount(y.astype(int)).max()) / len(y)


class Predictor:
    """Runs many samples, `batch` at a time. Outputs that are no numbers count as 0, none beyond LARGEST."""

    def __init__(self, model: bytes, batch: int) -> None:
        self._single = Runner(model)
        self._many = _resized(model, batch) if batch > 1 else None
        self._batch = batch

    def __call__(self, x: Floats) -> Floats:
        whole = len(x) - len(x) % self._batch if self._many else 0
        outputs = [self._invoke(x[i : i + self._batch]) for i in range(0, whole, self._batch)]
        if whole < len(x):
            outputs.append(self._single(x[whole:]))
        numbers = np.nan_to_num(np.concatenate(outputs), nan=0.0)
        return np.asarray(np.clip(numbers, -LARGEST, LARGEST), np.float32)

    def _invoke(self, x: Floats) -> Floats:
        assert self._many is not None
        source, target = self._many.get_input_details()[0], self._many.get_output_details()[0]
        self._many.set_tensor(source["index"], x.reshape(source["shape"]))
        self._many.invoke()
        return np.asarray(self._many.get_tensor(target["index"]))


def _resized(model: bytes, batch: int) -> Any:
    """An interpreter for `batch` samples. Raises ValueError or RuntimeError where the network fixes one."""
    interpreter = Interpreter(model_content=model, num_threads=1)
    source = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(source["index"], [batch, *source["shape"][1:]])
    interpreter.allocate_tensors()
    return interpreter


def _batch(model: bytes, x: Floats) -> int:
    """BATCH if the network computes as much together as one by one, else 1."""
    if len(x) < BATCH:
        return 1
    try:
        together = Predictor(model, BATCH)(x[:BATCH])
    except (ValueError, RuntimeError):
        return 1
    alone = Predictor(model, 1)(x[:BATCH])
    return BATCH if together.shape == alone.shape and np.allclose(together, alone, atol=1e-4) else 1


def find(spec: Spec) -> Path:
    """The model's file: trained here, beside the data, or that of the package. Raises InputError."""
    folders = [cache.folder("models")]
    if directory := os.environ.get("REGROW_DATA"):
        folders += [Path(directory), Path(directory).parent / "models"]
    for folder in [*folders, TRAINED]:
        if (path := folder / spec.file).is_file():
            return path
    how = (
        f"copy MLPerf Tiny's {spec.file} there"
        if spec.published
        else f"train it: regrow study train {spec.name}"
    )
    raise InputError(f"the model {spec.name} is not in {folders[0]}: {how}")


def load(spec: Spec, seed: int) -> Subject:
    """The trained model and its test samples. Raises InputError in one sentence for what is missing."""
    path = find(spec)
    samples = datasets.load(spec.data)
    try:
        model = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    x, y = spec.prepare(samples.x_test), samples.y_test
    try:
        return replace(
            subject(spec.name, model, Samples(x, y), Path(samples.source), seed), source=samples.source
        )
    except RegrowError as error:
        raise InputError(f"the model {spec.name} does not fit the study: {error}") from None


def beyond(spec: Spec, subject: Subject, seed: int) -> Samples | None:
    """The test samples that are more than the subject's, in its model's shape; None where it has all."""
    samples = datasets.load(spec.data)
    numbers = Samples(np.arange(len(samples.x_test)), None)
    rest = np.setdiff1d(numbers.x, data.some(numbers, MOST_SAMPLES, seed).x)
    if not len(rest):
        return None
    x, y = spec.prepare(samples.x_test[rest]), samples.y_test[rest]
    shape = subject.held_out.input_shape
    return data.fit(Samples(x, y), shape, Path(samples.source), grouped=subject.metric == "auc")


def subject(name: str, model: bytes, samples: Samples, path: Path, seed: int) -> Subject:
    """`path` is where the samples are from. Raises RegrowError where model and samples do not fit each other
    or the experiments.
    """
    parsed = tflite.read(model)
    precision = tflite.precision(parsed)
    if precision not in ("float32", "float16", "dynamic"):
        raise InputError(f"it computes in {precision}, the experiments need float32")
    model = tflite.build(parsed) if precision == "float32" else tflite.to_float32(parsed)
    if not tflite.weight_tensors(tflite.read(model)):
        raise InputError("it has no layer with weights")
    runner = Runner(model)
    judge = Judge.of(
        data.some(samples, MOST_SAMPLES, seed), "auto", (runner.input_shape, runner.output_shape), path
    )
    searching, held_out = data.split(judge.samples, seed, path)
    batch = _batch(model, judge.on(searching).inputs[:BATCH])
    return Subject(name, model, judge.metric, judge.on(searching), judge.on(held_out), batch)
