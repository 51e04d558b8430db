"""Rank correlations."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation, -1..1; 0 where one side does not vary."""
    return _pearson(_ranks(a), _ranks(b))


def partial_spearman(a: Sequence[float], b: Sequence[float], given: Sequence[float]) -> float:
    """The rank correlation of a and b that their relation to `given` does not explain."""
    ranks = [_ranks(each) for each in (a, b, given)]
    return _pearson(_residual(ranks[0], ranks[2]), _residual(ranks[1], ranks[2]))


def _ranks(values: Sequence[float]) -> Doubles:
    """Ranks from 0; equal values share the mean of theirs."""
    array = np.asarray(values, np.float64)
    order = np.sort(array)
    return (np.searchsorted(order, array, "left") + np.searchsorted(order, array, "right") - 1) / 2


def _residual(a: Doubles, given: Doubles) -> Doubles:
    a, given = a - a.mean(), given - given.mean()
    power = float(given @ given)
    return np.asarray(a - given * (float(a @ given) / power if power else 0.0))


def _pearson(a: Doubles, b: Doubles) -> float:
    a, b = a - a.mean(), b - b.mean()
    power = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / power if power > 1e-9 else 0.0
