"""`.npz` files of samples: `x` in the model's real units, samples in front, and `y`, what belongs to each."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import numpy as np
from numpy.typing import NDArray

from regrow.errors import InputError

Array = NDArray[Any]

SAVE = "save the samples with numpy.savez(path, x=..., y=...)"


def read_npz(path: str | Path) -> tuple[Array, Array | None]:
    """Arrays `x` and, if there, `y` as stored. Raises InputError in one sentence for anything unusable."""
    try:
        with Path(path).open("rb") as file:
            if not is_zipfile(file):
                raise InputError(f"{path} is no whole .npz file: {SAVE}")
            file.seek(0)
            x, y = _arrays(path, np.load(file, allow_pickle=False))
    except OSError as error:
        raise InputError(f"cannot read the samples {path}: {error.strerror or error}") from None
    except (ValueError, EOFError, MemoryError, NotImplementedError, BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read as an .npz file of plain numbers: {error}") from None
    _check_numbers(path, "x", x)
    if x.ndim == 0 or x.size == 0:
        raise InputError(f"{path} has no samples: x has the shape {x.shape}")
    if y is not None:
        _check_numbers(path, "y", y)
        if y.ndim == 0 or len(y) != len(x):
            raise InputError(f"{path} has {len(x)} samples and labels y of {y.shape}: one label a sample")
    return x, y


def _arrays(path: str | Path, file: Any) -> tuple[Array, Array | None]:
    if "x" not in file:
        raise InputError(f"{path} has no array x: save the samples under the name x")
    return file["x"], file["y"] if "y" in file else None  # noqa: SIM401 (it is no dict)


def _check_numbers(path: str | Path, name: str, array: Array) -> None:
    if array.dtype.kind not in "biuf":
        raise InputError(f"{path} has {name} of the type {array.dtype}: it must hold plain numbers")
    # Networks take float32; a comparison with NaN is false.
    if array.dtype.kind == "f" and not (np.abs(array) <= np.finfo(np.float32).max).all():
        raise InputError(
            f"{path} has values in {name} that are not finite in float32: remove the samples that hold them"
        )
