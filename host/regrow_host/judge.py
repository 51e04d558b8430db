"""Judge networks on one set of samples: how far outputs move, and what the metric loses."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from regrow.errors import InputError
from regrow.labels import by_class, classes

from regrow_host import data, metrics
from regrow_host.data import Samples
from regrow_host.metrics import Comparison
from regrow_host.runner import Floats, Predict

Shape = tuple[int, ...]

CHUNK = 256
"""Inputs between two steps of a progress bar."""


@dataclass(frozen=True)
class Judge:
    """Samples in a model's shape, and the metric they are judged by.

    Where labels are missing, the source's answers stand for them: a drop is then the disagreement with it.
    """

    metric: str
    samples: Samples
    input_shape: tuple[int, ...]
    labelled: bool
    temperature: float = 1.0
    """Of the source's probabilities."""

    @classmethod
    def of(
        cls, samples: Samples, metric: str, shapes: tuple[tuple[int, ...], tuple[int, ...]], path: Path
    ) -> "Judge":
        """`shapes` are those of the model's input and output. Raises InputError when samples do not fit."""
        takes, gives = shapes
        fitted = data.fit(samples, takes, path, grouped=takes == gives)
        chosen = metrics.choose(metric, takes, gives, fitted.y)
        if fitted.y is None:
            return cls(chosen, fitted, takes, labelled=False)
        y = fitted.y if chosen == "mae" else classes(fitted.y)
        return cls(chosen, Samples(fitted.x, y), takes, labelled=True)

    def on(self, samples: Samples) -> "Judge":
        return replace(self, samples=samples)

    def answered(self, outputs: Floats) -> "Judge":
        """The same with the source's answers, from its outputs for all inputs, in place of labels."""
        outputs = outputs.reshape(len(self.samples), -1)
        y = by_class(outputs).argmax(axis=1) if self.metric in metrics.RANKS else outputs
        return self.on(Samples(self.samples.x, y))

    def calibrated(self, outputs: Floats) -> "Judge":
        """The same with the temperature at which the source's outputs for all inputs fit the labels."""
        if not self.labelled or self.metric not in metrics.RANKS:
            return self
        return replace(self, temperature=metrics.temperature(outputs, self.labels))

    @property
    def inputs(self) -> Floats:
        """All inputs, (n, *input shape without batch), float32 in real units."""
        return np.asarray(data.inputs(self.samples, self.input_shape).astype(np.float32))

    @property
    def labels(self) -> NDArray[np.generic]:
        if self.samples.y is None:
            raise InputError("the data has no labels: an array y beside x is needed to measure accuracy")
        return self.samples.y

    def outputs(self, predict: Predict, step: Callable[[int], None] = lambda done: None) -> Floats:
        """What the network gives for all inputs; `step(n)` is called after every n of them."""
        x = self.inputs
        outputs = []
        for start in range(0, len(x), CHUNK):
            outputs.append(predict(x[start : start + CHUNK]))
            step(len(outputs[-1]))
        return np.concatenate(outputs)

    def figure(self, outputs: Floats) -> float:
        return metrics.figure(self.metric, self.scores(outputs), self.labels)

    def compare(self, source: Floats, pack: Floats, looks: int = 1) -> Comparison:
        """The paired difference of two networks from their outputs; `looks` as in `metrics.compare`."""
        comparison = metrics.compare(self.metric, self.scores(source), self.scores(pack), self.labels, looks)
        if self.labelled and self.metric in metrics.RANKS:
            regrets = metrics.regrets(metrics.RANKS[self.metric], source, pack, self.temperature)
            expected = metrics.expected_hits(regrets, self.scores(source), self.scores(pack))
        elif self.metric == "auc":
            expected = metrics.expected_auc(self.scores(source), self.scores(pack), self.labels)
        else:
            expected = comparison.drop
        return replace(comparison, expected=expected)

    def scores(self, outputs: Floats) -> Floats:
        """One number per sample (n,), from the outputs for all inputs."""
        return metrics.scores(self.metric, self.inputs, outputs, self.labels)


def divergence(metric: str, source: Floats, changed: Floats) -> float:
    """How far outputs (n, ...) moved from the source's, far less noisy than counting hits.

    For classifiers the mean Kullback-Leibler divergence KL(source || changed) in nats, else the mean squared
    difference.
    """
    source, changed = source.reshape(len(source), -1), changed.reshape(len(changed), -1)
    if metric not in metrics.RANKS:
        return float(np.square(source - changed).mean())
    p, q = metrics.probabilities(source), metrics.probabilities(changed)
    return float((p * np.log(p / q)).sum(axis=1).mean())
