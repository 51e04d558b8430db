"""Labels as classes, and the class that a network's outputs choose."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LARGEST = 1 << 31


def classes(y: Array) -> NDArray[np.int64] | None:
    """Labels y (n, ...) as classes (n,): a whole number a sample, or a row that is 0 but for a 1 (one-hot).

    None where they are neither.
    """
    rows = y.reshape(len(y), -1)
    if rows.shape[1] == 1:
        whole = (rows == np.rint(rows)).all() and np.abs(rows).max() < LARGEST
        return rows[:, 0].astype(np.int64) if whole else None
    hot = ((rows == 0) | (rows == 1)).all() and (rows.sum(axis=1) == 1).all()
    return np.asarray(rows.argmax(axis=1), np.int64) if hot else None


def by_class(outputs: Array) -> Array:
    """Outputs (n, classes) in real units, so that the largest is the class chosen.

    One alone is the probability of the second of two classes or, where any is not in 0 to 1, its logit.
    """
    if outputs.shape[1] > 1:
        return outputs
    logits = outputs.min() < 0 or outputs.max() > 1
    return np.concatenate([np.zeros_like(outputs) if logits else 1 - outputs, outputs], axis=1)
