"""`.npz` files of samples: `x` in the model's real units, `y` labels; their shapes and their splits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from regrow.errors import InputError
from regrow.samples import read_npz

SEARCH_SHARE = 2, 5
FEWEST = 10


@dataclass(frozen=True)
class Samples:
    """`x` has the samples on its first axis; `y` (n,) or what belongs to each sample, None without labels."""

    x: NDArray[Any]
    y: NDArray[Any] | None

    def __len__(self) -> int:
        return len(self.x)

    def take(self, which: NDArray[np.intp]) -> "Samples":
        return Samples(self.x[which], None if self.y is None else self.y[which])


def load_npz(path: Path) -> Samples:
    """Arrays `x` and, if there, `y` as stored. Raises InputError in one sentence for anything unusable."""
    return Samples(*read_npz(path))


def fit(samples: Samples, shape: tuple[int, ...], path: Path, grouped: bool = False) -> Samples:
    """Samples whose x is (n, *groups, *shape[1:]) for a model input of `shape`, with its batch axis.

    Axes of length 1 may be missing or be too many. With `grouped` a sample may be a group of inputs (a clip
    of windows). Raises InputError naming both shapes.
    """
    inner = shape[1:] if shape and shape[0] == 1 else shape
    found = samples.x.shape[1:]
    for axes in range(len(found) + 1):
        groups, rest = found[:axes], found[axes:]
        if axes and not grouped:
            break
        if _without_ones(rest) == _without_ones(inner):
            return Samples(samples.x.reshape(len(samples), *groups, *inner), samples.y)
    wanted = (len(samples), *inner)
    raise InputError(f"{path} has samples of the shape {found}, the model takes {inner}: x must be {wanted}")


def inputs(samples: Samples, shape: tuple[int, ...]) -> NDArray[Any]:
    """All model inputs of the samples, groups taken apart: (inputs, *shape[1:])."""
    return samples.x.reshape(-1, *(shape[1:] if shape and shape[0] == 1 else shape))


def split(samples: Samples, seed: int, path: Path) -> tuple[Samples, Samples]:
    """(search, held-out) parts, the same for the same seed, every class in both in proportion.

    Shuffled, sorted by label, then taken in turn (systematic stratified sampling).
    """
    if len(samples) < FEWEST:
        raise InputError(
            f"{path} has {len(samples)} samples: at least {FEWEST} are needed to search and to judge"
        )
    order = np.random.default_rng(seed).permutation(len(samples))
    if samples.y is not None and samples.y.ndim == 1:
        order = order[np.argsort(samples.y[order], kind="stable")]
    share, of = SEARCH_SHARE
    searching = np.arange(len(order)) % of < share
    return samples.take(np.sort(order[searching])), samples.take(np.sort(order[~searching]))


def some(samples: Samples, count: int, seed: int) -> Samples:
    """At most `count` samples drawn at random, in their order."""
    if len(samples) <= count:
        return samples
    return samples.take(np.sort(np.random.default_rng(seed).choice(len(samples), count, replace=False)))


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)
