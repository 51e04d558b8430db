"""LiteRT: a pack's `.tflite` regrown into memory and run by the interpreter."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from regrow import skeleton
from regrow.errors import BackendError
from regrow.network import TensorInfo
from regrow.pack import Pack

Array = NDArray[Any]

PACKAGES = ("ai_edge_litert", "tflite_runtime")
INSTALL = "install ai-edge-litert, or use the numpy backend"


def interpreter_module() -> Any:
    """The interpreter module of whichever package is installed; BackendError if none can be used."""
    for package in PACKAGES:
        try:
            module = importlib.import_module(f"{package}.interpreter")
        except ImportError:
            continue
        if package == "tflite_runtime" and int(np.__version__.split(".")[0]) >= 2:
            raise BackendError(f"tflite-runtime crashes with numpy 2 or newer: {INSTALL}, or install numpy<2")
        return module
    raise BackendError(f"LiteRT is not installed: {INSTALL}")


class LiteRT:
    """Runs a `.tflite` given as a file's path; raises BackendError if LiteRT refuses it."""

    backend = "litert"

    def __init__(self, path: str) -> None:
        module = interpreter_module()
        try:
            with _without_notices():
                self._interpreter = module.Interpreter(model_path=path)
                self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise BackendError(f"LiteRT refuses the network: {error}") from None
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.inputs = tuple(map(_info, inputs))
        self.outputs = tuple(map(_info, outputs))
        self._input_ids = [detail["index"] for detail in inputs]
        self._output_ids = [detail["index"] for detail in outputs]

    @classmethod
    def of(cls, pack: Pack) -> LiteRT:
        """The network of a pack, which may be closed afterwards.

        The file is regrown piece by piece into memory that LiteRT then maps: there is one copy.
        """
        with _memory_file() as file:
            skeleton.regrow(pack, file)
            file.flush()
            return cls(f"/proc/self/fd/{file.fileno()}" if isinstance(file.name, int) else file.name)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Arrays (samples, *shape) in the inputs' types -> the same of the outputs."""
        samples = len(inputs[0])
        outputs = [np.empty((samples, *info.shape), info.dtype) for info in self.outputs]
        for i in range(samples):
            for index, array in zip(self._input_ids, inputs, strict=True):
                self._interpreter.set_tensor(index, array[i])
            self._interpreter.invoke()
            for index, array in zip(self._output_ids, outputs, strict=True):
                array[i] = self._interpreter.get_tensor(index)
        return outputs


def _info(detail: dict[str, Any]) -> TensorInfo:
    scale, zero_point = detail["quantization"]
    shape = tuple(int(n) for n in detail["shape"])
    return TensorInfo(shape, np.dtype(detail["dtype"]), float(scale), int(zero_point))


@contextmanager
def _memory_file() -> Iterator[BinaryIO]:
    """A file in memory, or a temporary one where the system has none."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("regrow"), "wb") as file:
            yield file
    else:
        with tempfile.NamedTemporaryFile(suffix=".tflite") as named:
            yield named  # type: ignore[misc]


@contextmanager
def _without_notices() -> Iterator[None]:
    """Hold back the lines that LiteRT's C++ code marks INFO on stderr; there is no switch for them."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if not line.startswith(b"INFO:"):
                    os.write(2, line)
