"""Run a `.tflite` over many samples by LiteRT, on all cores."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType  # type: ignore[import-untyped]
from numpy.typing import NDArray
from regrow import quant
from regrow.errors import BackendError, InputError
from regrow.litert import _without_notices

from regrow_host import tflite

Floats = NDArray[np.float32]
Array = NDArray[Any]
Predict = Callable[[Floats], Floats]
"""(n, *input shape) -> (n, *output shape), without the batch axis, both in real units."""

THREADS = os.cpu_count() or 1
"""That a network runs on; 1 in worker processes."""
FEWEST = 8
"""Samples worth an interpreter of their own."""


class Engine:
    """A `.tflite` with an interpreter per thread (default: THREADS); numbers as the network has them.

    `reference` takes TFLite's reference kernels, which the tile executor equals bit for bit, instead of the
    optimized ones. Raises BackendError.
    """

    def __init__(self, data: bytes, reference: bool = False, threads: int | None = None) -> None:
        self._data = data
        self._threads = threads or THREADS
        self._kernels = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
        self._interpreters = [self._open()]
        self.inputs: list[dict[str, Any]] = self._interpreters[0].get_input_details()
        self.outputs: list[dict[str, Any]] = self._interpreters[0].get_output_details()

    def run(self, feeds: Sequence[Array]) -> list[Array]:
        """Per input of the network (n, *its shape), of samples in a row; per output the same."""
        count = len(feeds[0])
        results = [np.empty((count, *each["shape"]), each["dtype"]) for each in self.outputs]
        threads = max(1, min(self._threads, count // FEWEST))
        while len(self._interpreters) < threads:
            self._interpreters.append(self._open())

        def part(thread: int) -> None:
            interpreter = self._interpreters[thread]
            for sample in range(thread, count, threads):
                for feed, detail in zip(feeds, self.inputs, strict=True):
                    interpreter.set_tensor(detail["index"], feed[sample])
                interpreter.invoke()
                for result, detail in zip(results, self.outputs, strict=True):
                    result[sample] = interpreter.get_tensor(detail["index"])

        # LiteRT computes without Python's lock.
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, range(threads)))
        return results

    def _open(self) -> Any:
        try:
            with _without_notices():
                interpreter = Interpreter(
                    model_content=self._data, experimental_op_resolver_type=self._kernels, num_threads=1
                )
                interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BackendError(f"LiteRT refuses the model: {error}") from None
        return interpreter


def computed(data: bytes, tensors: Sequence[int]) -> dict[int, Array]:
    """What a `.tflite` computes for tensors that no input changes, by index. Raises BackendError."""
    try:
        with _without_notices():
            interpreter = Interpreter(
                model_content=data,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                experimental_preserve_all_tensors=True,
            )
            interpreter.allocate_tensors()
        for each in interpreter.get_input_details():
            interpreter.set_tensor(each["index"], np.zeros(each["shape"], each["dtype"]))
        interpreter.invoke()
        return {index: interpreter.get_tensor(index) for index in tensors}
    except (ValueError, RuntimeError) as error:
        raise BackendError(f"LiteRT refuses the model: {error}") from None


class Runner:
    """One network with one input and one output, in real units. Raises BackendError or InputError."""

    def __init__(self, data: bytes, reference: bool = False) -> None:
        # A network with a state takes its samples one after the other.
        threads = 1 if tflite.keeps_state(tflite.read(data)) else None
        self._engine = Engine(data, reference, threads)
        inputs, outputs = self._engine.inputs, self._engine.outputs
        if len(inputs) != 1 or len(outputs) != 1:
            raise InputError(
                f"the model has {len(inputs)} inputs and {len(outputs)} outputs: regrow needs one of each"
            )
        self._input, self._output = inputs[0], outputs[0]
        self.input_shape = tuple(int(size) for size in self._input["shape"])
        self.output_shape = tuple(int(size) for size in self._output["shape"])

    def __call__(self, x: Floats) -> Floats:
        (out,) = self._engine.run([_stored(x, self._input).reshape(len(x), *self.input_shape)])
        scale, zero_point = self._output["quantization"]
        real = quant.dequantize(out, scale, zero_point) if scale else out
        return np.asarray(real.reshape(len(x), *self.output_shape[1:]), np.float32)


def _stored(x: Floats, tensor: dict[str, Any]) -> NDArray[Any]:
    scale, zero_point = tensor["quantization"]
    kind = np.dtype(tensor["dtype"])
    return np.asarray(quant.quantize(x, scale, zero_point, kind) if scale else x.astype(kind))
