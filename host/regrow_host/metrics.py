"""How good outputs are against labels, and how much a pack loses against its source, with 95 % intervals.

| metric | value of one sample | drop, positive when the pack is worse |
| --- | --- | --- |
| top1, top5 | 1 when y is the (are the 5) largest output(s) | 100 * (source - pack), percentage points |
| auc | mean squared reconstruction error (figure: ROC AUC of it, y = 1: anomaly) | as above |
| mae | mean absolute error | 100 * (pack - source) / mean |y - mean(y)|, points of y's spread |
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from regrow.errors import InputError
from regrow.labels import by_class, classes

METRICS = "top1", "top5", "auc", "mae"
RANKS = {"top1": 1, "top5": 5}
RESAMPLES = 2000
ERROR = 0.05
"""The share of intervals that miss what they are of."""
Z95 = NormalDist().inv_cdf(1 - ERROR / 2)
TEMPERATURES = np.exp2(np.arange(-48, 49) / 8)
DOUBT = 0.5
"""Of a regret: how far the drop may truly be from it."""
BANDWIDTH = 0.2
"""In standard deviations of a class's log scores."""
USUAL = 0.15
"""How far from 1 temperatures usually are, in their logarithm; outputs that are no logits go any far."""
TINY = 1e-12

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Comparison:
    """A metric of source and pack on the same samples; low..high is the drop's 95 % interval.

    `expected` is the drop that varies less with chance, by `expected_hits` or `expected_auc`, else `drop`.
    """

    metric: str
    samples: int
    source: float
    pack: float
    drop: float
    low: float
    high: float
    expected: float

    @property
    def likely(self) -> float:
        """The drop by which packs are searched, and that they keep beside the counted one. Most of a count
        of half a point is chance, and that of the first pack that passes is too good: what is expected varies
        a quarter as much. It gives way to a count of which even the lower end is more.
        """
        return max(self.expected, self.low)


def choose(metric: str, inputs: tuple[int, ...], outputs: tuple[int, ...], y: NDArray[Any] | None) -> str:
    """`auto` resolved: auc when the model gives back the shape it takes and labels are 0 or 1, top1 when
    labels are classes, else mae.

    Without labels the source's answers stand for them: mae when they are one number or have the input's
    shape, else top1. Raises InputError when the labels cannot serve the metric.
    """
    wanted = math.prod(outputs)
    if y is None:
        if metric == "auc":
            raise InputError("the data has no labels: auc needs an array y beside x")
        return metric if metric != "auto" else "mae" if inputs == outputs or wanted == 1 else "top1"
    if metric == "auto":
        metric = _fitting(inputs, outputs, y)
    if metric == "auc":
        if inputs != outputs:
            raise InputError(
                "auc needs a model whose output has the shape of its input: choose another --metric"
            )
        if not _answers(y) or len(np.unique(y)) != 2:
            raise InputError("auc needs labels y of 0 (normal) and 1 (anomaly), and samples of both")
    if metric in RANKS:
        labels, last = classes(y), max(wanted, 2) - 1
        if labels is None:
            raise InputError(f"{metric} needs one integer class in y per sample, y is {y.dtype} of {y.shape}")
        if labels.min() < 0 or labels.max() > last:
            raise InputError(f"y has classes {labels.min()}..{labels.max()}, the model's are 0..{last}")
    if metric == "mae" and y[0].size != wanted:
        raise InputError(
            f"mae needs {wanted} values a sample, y has {y[0].size}; classes are whole numbers, one a sample"
        )
    return metric


def _fitting(inputs: tuple[int, ...], outputs: tuple[int, ...], y: NDArray[Any]) -> str:
    if inputs == outputs and math.prod(inputs) > 1 and _answers(y):
        return "auc"
    if math.prod(outputs) == 1:
        return "top1" if _answers(y) else "mae"
    return "mae" if classes(y) is None else "top1"


def _answers(y: NDArray[Any]) -> bool:
    """Whether each sample has one label, 0 or 1."""
    return y.size == len(y) and bool(np.isin(y, (0, 1)).all())


def scores(metric: str, x: Floats, outputs: Floats, y: NDArray[Any]) -> Floats:
    """One number per sample (n,): hit (1.0 or 0.0), reconstruction error or absolute error.

    `outputs` belongs to the inputs of all samples in order; for auc several inputs may make one sample.
    """
    count = len(y)
    if metric == "auc":
        error = np.square(outputs.reshape(len(outputs), -1) - x.reshape(len(outputs), -1)).mean(axis=1)
        return np.asarray(error.reshape(count, -1).mean(axis=1))
    flat = outputs.reshape(count, -1)
    if metric == "mae":
        return np.asarray(np.abs(flat - y.reshape(count, -1)).mean(axis=1))
    flat, labels = by_class(flat), y.reshape(count)
    own = flat[np.arange(count), labels]
    # A tie counts for the lower class, as argmax does.
    lower = np.arange(flat.shape[1]) < labels[:, None]
    rank = (flat > own[:, None]).sum(axis=1) + ((flat == own[:, None]) & lower).sum(axis=1)
    return np.asarray((rank < RANKS[metric]).astype(np.float64))


def probabilities(outputs: Floats) -> NDArray[np.float64]:
    """Outputs (n, classes) as probabilities, logits by softmax; none is below half an int8 step."""
    wide = by_class(outputs).astype(np.float64)
    if wide.min() < 0 or np.abs(wide.sum(axis=1) - 1).max() > 0.1:
        wide = np.exp(wide - wide.max(axis=1, keepdims=True))
    wide = np.maximum(wide, 1 / 512)
    return np.asarray(wide / wide.sum(axis=1, keepdims=True))


def temperature(outputs: Floats, y: NDArray[Any]) -> float:
    """What divides the logits so that the probabilities are those of the classes y (n,): that of the highest
    likelihood (Guo et al., On calibration of modern neural networks, 2017) times a Cauchy prior.
    """
    p = probabilities(outputs.reshape(len(outputs), -1))
    places = np.arange(len(p)), y.reshape(-1)

    def likelihood(each: float) -> float:
        return float(np.log(_tempered(p, each)[places]).sum()) - math.log1p((math.log(each) / USUAL) ** 2)

    return float(max(TEMPERATURES, key=likelihood))


def _tempered(p: NDArray[np.float64], by: float) -> NDArray[np.float64]:
    powers = np.maximum((p / p.max(axis=1, keepdims=True)) ** (1 / by), TINY)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def regrets(rank: int, source: Floats, pack: Floats, temperature: float = 1.0) -> NDArray[np.float64]:
    """Per sample the points of hits among the first `rank` classes that a pack is expected to lose, if the
    source's probabilities at the temperature are those of the classes: none where both choose the same.

    Less noisy than counting hits, and needs no labels. Outputs are (n, *classes).
    """
    p = _tempered(probabilities(source.reshape(len(source), -1)), temperature)
    best = np.sort(p, axis=1)[:, -rank:].sum(axis=1)
    order = np.argsort(-by_class(pack.reshape(len(pack), -1)), axis=1, kind="stable")[:, :rank]
    return np.asarray(100 * (best - np.take_along_axis(p, order, axis=1).sum(axis=1)))


def expected_hits(regrets: Floats, source: Floats, pack: Floats) -> float:
    """Points of hits that a pack loses, from its regrets and the hits of both (n,)."""
    _, error = _paired(source, pack)
    counted = 100 * float((source - pack).mean()), error**2
    return _weighed((float(regrets.mean()), float(regrets.var()) / len(regrets)), counted)


def expected_auc(source: Floats, pack: Floats, y: NDArray[Any]) -> float:
    """Points of AUC that a pack loses, from the scores of both (n,): of the smooth AUC and of the AUC."""
    return _weighed(*(_paired_auc(source, pack, y, bandwidth) for bandwidth in (BANDWIDTH, 0.0)))


def _weighed(modelled: tuple[float, float], counted: tuple[float, float]) -> float:
    """A modelled drop and a counted one, each with its variance, weighed by the inverse of these (Graybill
    and Deal, Combining unbiased estimators, Biometrics 15, 1959). The model may be wrong by DOUBT.
    """
    (model, variance), (count, error) = modelled, counted
    variance += (DOUBT * model) ** 2
    share = variance / (variance + error) if variance + error else 0.0
    return model + share * (count - model)


def figure(metric: str, values: Floats, y: NDArray[Any]) -> float:
    """The metric of all samples from their scores."""
    return auc(values, y) if metric == "auc" else float(values.mean())


def auc(values: Floats, y: NDArray[Any]) -> float:
    """Area under the ROC curve: the chance that an anomaly scores above a normal sample (Mann-Whitney U)."""
    order = np.sort(values)
    ranks = (np.searchsorted(order, values, "left") + np.searchsorted(order, values, "right") + 1) / 2
    positives = int((y == 1).sum())
    negatives = len(y) - positives
    return float((ranks[y == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def placements(values: Floats, y: NDArray[Any], bandwidth: float) -> tuple[Floats, Floats]:
    """Per anomaly the share of normal samples that it is above, and per normal sample that of anomalies above
    it; the mean of either is the AUC of scores that are not negative.

    It varies less where pairs close to each other count in part for either order, by a logistic kernel on log
    scores of that width in standard deviations of a class (Lloyd, Using smoothed receiver operating
    characteristic curves to summarize and compare diagnostic systems, JASA 93, 1998).
    """
    logs = np.log(np.maximum(values, TINY))
    anomalies, normal = logs[y == 1], logs[y == 0]
    variance = (anomalies.var() * len(anomalies) + normal.var() * len(normal)) / len(logs)
    width = max(bandwidth * math.sqrt(variance), TINY)
    above, below = np.empty(len(anomalies)), np.zeros(len(normal))
    for i, each in enumerate(anomalies):
        shares = 1 / (1 + np.exp(np.clip((normal - each) / width, -50, 50)))
        above[i] = shares.mean()
        below += shares / len(anomalies)
    return above, below


def _paired_auc(source: Floats, pack: Floats, y: NDArray[Any], bandwidth: float) -> tuple[float, float]:
    """The drop of the AUC in points, and its variance (DeLong, DeLong and Clarke-Pearson, Comparing the areas
    under two or more correlated receiver operating characteristic curves, Biometrics 44, 1988).
    """
    pairs = zip(*(placements(each, y, bandwidth) for each in (source, pack)), strict=True)
    changes = [100 * (before - after) for before, after in pairs]
    return float(changes[0].mean()), sum(float(each.var()) / len(each) for each in changes)


def compare(metric: str, source: Floats, pack: Floats, y: NDArray[Any], looks: int = 1) -> Comparison:
    """The paired difference of two models from their scores of the same samples.

    The interval holds for as many packs together as `looks` says, of which this one was chosen (Bonferroni).
    """
    low, high = _interval(metric, source, pack, y, ERROR / looks)
    source_figure, pack_figure = figure(metric, source, y), figure(metric, pack, y)
    drop = _drop(metric, source, pack, y)
    return Comparison(metric, len(y), source_figure, pack_figure, drop, low, high, drop)


def _drop(metric: str, source: Floats, pack: Floats, y: NDArray[Any]) -> float:
    if metric == "mae":
        spread = float(np.abs(y - y.mean(axis=0)).mean())
        return 100 * float(pack.mean() - source.mean()) / spread if spread else 0.0
    return 100 * (figure(metric, source, y) - figure(metric, pack, y))


def _interval(
    metric: str, source: Floats, pack: Floats, y: NDArray[Any], error: float
) -> tuple[float, float]:
    """For hits the adjusted Wald interval of paired proportions, which stays honest when no sample differs
    (Agresti and Min, Statistics in Medicine 24, 2005); else the paired percentile bootstrap (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993).
    """
    if metric in RANKS:
        middle, deviation = _paired(source, pack)
        half = NormalDist().inv_cdf(1 - error / 2) * deviation
        return middle - half, middle + half
    count = len(y)
    random = np.random.default_rng(0)
    drops = []
    for _ in range(RESAMPLES):
        drawn = random.integers(0, count, count)
        if metric == "auc" and len(np.unique(y[drawn])) < 2:
            continue
        drops.append(_drop(metric, source[drawn], pack[drawn], y[drawn]))
    low, high = np.percentile(drops, [50 * error, 100 - 50 * error])
    return float(low), float(high)


def _paired(source: Floats, pack: Floats) -> tuple[float, float]:
    """The adjusted drop of hits in points, and its standard deviation."""
    worse = float((source > pack).sum()) + 0.5
    better = float((source < pack).sum()) + 0.5
    total = len(source) + 2
    deviation = math.sqrt(worse + better - (worse - better) ** 2 / total) / total
    return 100 * (worse - better) / total, 100 * deviation
