"""The probe part: a network's self-test (docs/pack-format.md, "Probe part")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrow.errors import PackError
from regrow.generator import grow
from regrow.network import Network, TensorInfo
from regrow.reader import Reader

Array = NDArray[Any]

FORM = 1
EXECUTOR_INTEGERS, LITERT_FLOATS, LITERT_INTEGERS = range(3)
LITERAL, GROWN = range(2)
MAX_SAMPLES = 16


def run(network: Network, reader: Reader) -> None:
    """Raise PackError unless the network gives the outputs that the probe demands."""
    if (form := reader.u8()) != FORM:
        raise PackError(f"the probe has form {form}, but this version reads form {FORM}")
    domain, samples, input_form = reader.u8(), reader.u8(), reader.u8()
    if domain > LITERT_INTEGERS or not 1 <= samples <= MAX_SAMPLES or input_form > GROWN:
        raise PackError(f"the probe has domain {domain}, {samples} samples and input form {input_form}")
    seed, low, high, tolerance = reader.u32(), reader.f32(), reader.f32(), reader.f32()
    if not all(map(math.isfinite, (low, high, tolerance))) or tolerance < 0:
        raise PackError(f"the probe has the range {low} to {high} and the tolerance {tolerance}")
    _need_size(reader.varint(), network.inputs, "inputs")
    _need_size(reader.varint(), network.outputs, "outputs")
    if (domain == EXECUTOR_INTEGERS) != (network.backend == "numpy"):
        raise PackError(f"the probe of domain {domain} is not for the {network.backend} backend")
    if (domain == LITERT_FLOATS) != any(info.dtype.kind == "f" for info in network.inputs):
        raise PackError(f"the probe of domain {domain} does not fit the network's input types")

    given = (
        inputs(network.inputs, samples, seed, low, high)
        if input_form == GROWN
        else _split(reader, network.inputs, samples)
    )
    expected = _split(reader, network.outputs, samples)
    if reader.left:
        raise PackError(f"the probe is followed by {reader.left} bytes that belong to nothing")
    found = network.predict(given if len(given) > 1 else given[0])
    for want, have in zip(expected, found if isinstance(found, list) else [found], strict=True):
        apart = np.abs(want.astype(np.float64) - have)
        if not (apart <= (0 if domain == EXECUTOR_INTEGERS else tolerance)).all():
            raise PackError(f"the network fails its probe: an output is off by {apart.max():g}")


def inputs(infos: Sequence[TensorInfo], samples: int, seed: int, low: float, high: float) -> list[Array]:
    """Grown inputs, per tensor (samples, *shape): any byte for integers, low to high for float32.

    Raises PackError for inputs that are neither 8-bit integers nor float32.
    """
    counts = [math.prod(info.shape) for info in infos]
    u = grow(seed, np.arange(samples * sum(counts))).reshape(samples, -1)
    starts = np.cumsum([0, *counts])
    return [
        _values(u[:, start : start + count], info, low, high).reshape(samples, *info.shape)
        for info, start, count in zip(infos, starts, counts, strict=False)
    ]


def _values(u: Array, info: TensorInfo, low: float, high: float) -> Array:
    if info.dtype.kind == "f":
        return (low + (high - low) * u.astype(np.float64) / 65536).astype(np.float32)
    if info.dtype.itemsize != 1:
        raise PackError(f"a probe cannot grow inputs of type {info.dtype}")
    return (u >> 8).astype(np.uint8).view(info.dtype)


def _need_size(stated: int, infos: Sequence[TensorInfo], what: str) -> None:
    size = sum(_nbytes(info) for info in infos)
    if stated != size:
        raise PackError(f"the probe has {stated} bytes of {what} a sample, but the network {size}")


def _nbytes(info: TensorInfo) -> int:
    return math.prod(info.shape) * info.dtype.itemsize


def _split(reader: Reader, infos: Sequence[TensorInfo], samples: int) -> list[Array]:
    """The samples one after the other, each with its tensors in order -> per tensor (samples, *shape)."""
    rows = [[_read(reader, info) for info in infos] for _ in range(samples)]
    return [np.stack(column) for column in zip(*rows, strict=True)]


def _read(reader: Reader, info: TensorInfo) -> Array:
    stored = np.frombuffer(reader.read(_nbytes(info)), info.dtype.newbyteorder("<"))
    return stored.astype(info.dtype).reshape(info.shape)
