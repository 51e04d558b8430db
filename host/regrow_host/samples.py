"""Write labelled samples as boards read them: `regrow.samples` under micropython/ tells the format."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from regrow.errors import InputError

MAGIC = b"RGS1"


def write_samples(path: str | Path, x: NDArray[np.int8], y: NDArray[Any]) -> None:
    """Write samples x (n, ...) int8, as the network takes them, and their labels y (n,), 0 to 255.

    Raises InputError if the arrays do not fit each other or the format.
    """
    count = len(x)
    if x.dtype != np.int8 or not count or not x[0].size:
        raise InputError(f"samples for a board must be int8 and not empty, not {x.dtype} of shape {x.shape}")
    if y.shape != (count,) or not np.isin(y, np.arange(256)).all():
        raise InputError(f"the labels must be {count} integers from 0 to 255")
    rows = np.concatenate([x.reshape(count, -1).view(np.uint8), y.astype(np.uint8)[:, None]], axis=1)
    Path(path).write_bytes(MAGIC + struct.pack("<II", count, rows.shape[1] - 1) + rows.tobytes())
