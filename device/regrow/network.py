"""A loaded network, whatever runs it: checks and converts samples, hands integers to the engine."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regrow import quant
from regrow.errors import InputError

Array = NDArray[Any]


@dataclass(frozen=True)
class TensorInfo:
    """An input or output: real value = (integer - zero_point) * scale; scale 0 if not quantized."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float
    zero_point: int


class Engine(Protocol):
    """What runs a network: arrays (samples, *shape) in the inputs' types -> the same of the outputs."""

    backend: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    def run(self, inputs: Sequence[Array]) -> list[Array]: ...


class Network:
    """A model version that is ready to predict; a context manager that closes its pack."""

    def __init__(self, name: str, version: int, engine: Engine, close: Callable[[], object]) -> None:
        self.name = name
        self.version = version
        self.backend = engine.backend
        self.inputs = engine.inputs
        self.outputs = engine.outputs
        self._engine = engine
        self.close = weakref.finalize(self, close)

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def predict(self, x: ArrayLike | Sequence[ArrayLike]) -> Any:
        """Run the network on one sample or many.

        x: an array of the input's shape, with or without its leading 1, or with one more axis in front for
        many samples; a list of such arrays where the network has several inputs. Integers of the input's type
        give integers of the output's type; floats, in real units, give float32 in real units. The output has
        the same leading axes as x; several outputs come as a list. Raises InputError for anything else.
        """
        if not self.close.alive:
            raise InputError(f"the network {self.name} is closed, load it again")
        several = len(self.inputs) > 1
        if several and not (isinstance(x, (list, tuple)) and len(x) == len(self.inputs)):
            raise InputError(f"{self.name} takes a list of {len(self.inputs)} inputs")
        given = [_array(each) for each in (x if several else [x])]  # type: ignore[union-attr,arg-type]
        layouts = [_layout(array, info) for array, info in zip(given, self.inputs, strict=True)]
        if len({layout.samples for layout in layouts}) > 1:
            raise InputError(f"the inputs for {self.name} have different numbers of samples")
        layout = _Layout(layouts[0].samples, all(layout.batch for layout in layouts))
        real = any(array.dtype.kind == "f" for array in given)
        arrays = [
            _quantized(array, info).reshape(-1, *info.shape)
            for array, info in zip(given, self.inputs, strict=True)
        ]
        outputs = [
            _with_layout(_real(array, info) if real else array, info, layout)
            for array, info in zip(self._engine.run(arrays), self.outputs, strict=True)
        ]
        return outputs if len(outputs) > 1 else outputs[0]


def _array(x: ArrayLike) -> Array:
    try:
        return np.asarray(x)
    except ValueError:
        raise InputError(
            "a sample is a list of lists of different lengths, not an array of numbers"
        ) from None


@dataclass(frozen=True)
class _Layout:
    """Whether x has an axis of samples, and whether each sample has the leading 1."""

    samples: int | None
    batch: bool


def _layout(x: Array, info: TensorInfo) -> _Layout:
    shape = info.shape
    if x.shape == shape:
        return _Layout(None, True)
    if x.shape[1:] == shape:
        return _Layout(len(x), True)
    if shape[:1] == (1,):
        if x.shape == shape[1:]:
            return _Layout(None, False)
        if x.shape[1:] == shape[1:]:
            return _Layout(len(x), False)
    raise InputError(
        f"a sample of shape {x.shape} was given where the network takes {shape} "
        "or that with one more axis in front"
    )


def _with_layout(outputs: Array, info: TensorInfo, layout: _Layout) -> Array:
    batch = () if not layout.batch and info.shape[:1] == (1,) else info.shape[:1]
    samples = () if layout.samples is None else (layout.samples,)
    return outputs.reshape(*samples, *batch, *info.shape[1:])


def _quantized(x: Array, info: TensorInfo) -> Array:
    """x in the input's own type."""
    if x.dtype == info.dtype:
        return x
    if x.dtype.kind == "f":
        if info.dtype.kind == "f":
            return x.astype(info.dtype)
        if info.dtype.kind in "iu" and info.scale > 0:
            return quant.quantize(x, info.scale, info.zero_point, info.dtype)
    wanted = f"{info.dtype} or floats in real units" if info.scale > 0 else f"{info.dtype}"
    raise InputError(f"samples of type {x.dtype} were given where the network takes {wanted}")


def _real(x: Array, info: TensorInfo) -> Array:
    return quant.dequantize(x, info.scale, info.zero_point) if info.scale > 0 else x
