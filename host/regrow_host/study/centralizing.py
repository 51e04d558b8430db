"""Central weights as devices grow them, for the experiments."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from regrow.reader import Reader
from regrow.weights import Weights

from regrow_host.encode import central

Floats = NDArray[np.float32]

RESTORATIONS = {"uniform": central.UNIFORM, "mean": central.MEAN}
UNITS = {"unitary": central.UNITARY, "layer": central.LAYER, "batch": central.BATCH}


def centralized(
    values: Floats,
    unit: str,
    restore: str,
    size: int | None = None,
    seed: int = 0,
    *,
    whole: tuple[float, float] | tuple[None, None] = (None, None),
) -> tuple[Floats, int]:
    """What grows from the central part of `values`, in their shape, and the part's bytes.

    `size` is the batch size of unit `batch`; `whole` the network's mean and standard deviation of `unitary`.
    """
    part = central.encode(values, UNITS[unit], RESTORATIONS[restore], size, seed, *whole)
    grown = np.empty(values.shape, np.float32)
    Weights(Reader(BytesIO(part), 0, len(part))).read_floats(grown)
    return grown, len(part)
