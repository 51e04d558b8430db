"""The data sets of the study, raw as published.

A data set is taken from the first place that has it: the directory `$REGROW_DATA` of `.npz` files, the
cache, or the public loader, which fills the cache. A data set without a public loader comes from a CSV file.
"""

import csv
import os
import sys
import warnings
import zipfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from regrow.errors import InputError

from regrow_host.study import cache

Array = NDArray[Any]

TEST_SHARE = 0.2
MOST_TEST = 10_000
WORDS = {"yes": 1, "no": 0}


@dataclass(frozen=True)
class DataSet:
    """Samples in front; a data set without training samples has none of x_train and y_train (length 0)."""

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    source: str


def load(name: str) -> DataSet:
    """Raises InputError in one sentence where the data set is missing or unusable."""
    directory = os.environ.get("REGROW_DATA")
    if directory:
        for file in FILES[name]:
            if (path := Path(directory) / file).is_file():
                return _read(path, file)
    path = cache.folder("data") / f"{name}.npz"
    if path.is_file():
        return _read(path, f"{name}.npz of the cache")
    if name not in LOADERS:
        raise InputError(
            f"the data set {name} is missing: {_where(name)}"
            + (f", or give its CSV file: regrow study train MODEL --csv {name}.csv" if name in LABEL else "")
        )
    return _keep(name, _fetch(name), "public loader")


def from_csv(name: str, path: Path) -> DataSet:
    """Read a CSV file, split it and keep it in the cache for the experiments. Raises InputError."""
    if name not in LABEL:
        raise InputError(
            f"the data set {name} is not read from CSV files, only those of {', '.join(LABEL)} are"
        )
    try:
        table = _table(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} is no table of whole numbers 0..255 or Yes and No: {error}") from None
    x, y = np.delete(table, LABEL[name], axis=1), table[:, LABEL[name]]
    shape = SHAPES[name]
    if x[0].size != np.prod(shape):
        raise InputError(f"{path} has {x.shape[1]} columns beside the label, {name} needs {np.prod(shape)}")
    return _keep(name, _split(x.reshape(-1, *shape), y), path.name)


def _read(path: Path, source: str) -> DataSet:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in ("x_train", "y_train", "x_test", "y_test") if key in file}
            capitals = file.get("upper_test")
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as an .npz file: {error}") from None
    if "x_test" not in arrays or "y_test" not in arrays:
        raise InputError(f"{path} has no arrays x_test and y_test")
    if capitals is not None:  # the A-Z set, which Chars74K stands in for, has no small letters to confuse
        arrays |= {key: arrays[key][capitals] for key in ("x_test", "y_test")}
    if "y_train" not in arrays:
        inputs = arrays.pop("x_train", arrays["x_test"][:0])
        arrays |= {"x_train": inputs, "y_train": np.zeros(len(inputs), arrays["y_test"].dtype)}
    return DataSet(**arrays, source=source)


def _fetch(name: str) -> DataSet:
    try:
        with redirect_stdout(sys.stderr), warnings.catch_warnings():  # Keras tells on stdout what it fetches
            warnings.simplefilter("ignore")
            return LOADERS[name]()
    except ModuleNotFoundError as error:
        raise InputError(
            f'fetching the data set {name} needs the Python package {error.name}: pip install "regrow[study]"'
        ) from None
    except Exception as error:  # what a download raises is up to its library
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the data set {name} could not be fetched ({reason}): {_where(name)}") from None


def _where(name: str) -> str:
    """What to do for a data set that is in no directory."""
    file, directory = FILES[name][0], os.environ.get("REGROW_DATA")
    if directory:
        return f"there is no {file} in {directory}, which REGROW_DATA names: put it there"
    return f"set REGROW_DATA to a directory with {file}"


def _keep(name: str, data: DataSet, source: str) -> DataSet:
    path = cache.folder("data") / f"{name}.npz"
    temporary = path.with_name(f"{name}.tmp.npz")
    try:
        np.savez_compressed(
            temporary, x_train=data.x_train, y_train=data.y_train, x_test=data.x_test, y_test=data.y_test
        )
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return DataSet(data.x_train, data.y_train, data.x_test, data.y_test, source)


def _table(path: Path) -> NDArray[np.uint8]:
    with path.open(newline="", encoding="utf-8") as file:
        first = file.readline().strip().split(",")
        header = int(not all(cell.strip().isdigit() or cell.strip().lower() in WORDS for cell in first))
        second = file.readline() if header else ",".join(first)
    if not any(word in second.lower() for word in WORDS):
        return np.loadtxt(path, np.uint8, delimiter=",", skiprows=header, ndmin=2)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[header:]
    return np.array([[WORDS.get(c.strip().lower(), c) for c in row] for row in rows if row]).astype(np.uint8)


def _split(x: Array, y: Array) -> DataSet:
    """Training and test samples, every class in both in proportion, the same every time."""
    order = np.random.default_rng(0).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    every = max(round(1 / TEST_SHARE), -(-len(y) // MOST_TEST))
    test = np.zeros(len(y), bool)
    test[order[::every]] = True
    return DataSet(x[~test], y[~test], x[test], y[test], "")


def _keras(name: str) -> Callable[[], DataSet]:
    def load() -> DataSet:
        import keras  # noqa: PLC0415 - of the extra `study`

        (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
        return DataSet(x_train, y_train.ravel(), x_test, y_test.ravel(), "")

    return load


def _openml_poker() -> DataSet:
    """OpenML 1567: all of the UCI poker hands; 25,010 of them to train, as many as UCI's training set has."""
    from sklearn.datasets import fetch_openml  # noqa: PLC0415 - of the extra `study`

    table = fetch_openml(data_id=1567, as_frame=False)
    x, y = table.data.astype(np.uint8), table.target.astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(y))
    train, test = order[:25_010], order[25_010 : 25_010 + MOST_TEST]
    return DataSet(x[train], y[train], x[test], y[test], "")


LOADERS: dict[str, Callable[[], DataSet]] = {
    "mnist": _keras("mnist"),
    "cifar10": _keras("cifar10"),
    "poker": _openml_poker,
}
FILES = {
    "mnist": ("mnist.npz",),
    "cifar10": ("cifar10.npz",),
    "poker": ("poker.npz",),
    "covid": ("covid.npz",),
    "letters": ("letters.npz", "letters_chars74k.npz"),
    "kws": ("kws01.npz",),
    "vww": ("vww01.npz",),
    "ad": ("ad01.npz",),
}
"""Per data set the files of `$REGROW_DATA` that may hold it; Chars74K stands in for the A-Z set."""
LABEL = {"poker": -1, "covid": -1, "letters": 0}
"""The column of the label in the CSV files (UCI's and Kaggle's)."""
SHAPES = {"poker": (10,), "covid": (20,), "letters": (28, 28)}
"""Of a sample in the CSV files."""
