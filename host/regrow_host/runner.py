"""Run a `.tflite` over many samples by LiteRT, in real units."""

from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType  # type: ignore[import-untyped]
from numpy.typing import NDArray
from regrow import quant
from regrow.errors import BackendError, InputError
from regrow.litert import _without_notices

_LOCK = Lock()

Floats = NDArray[np.float32]
Predict = Callable[[Floats], Floats]
"""(n, *input shape) -> (n, *output shape), without the batch axis, both in real units."""


class Runner:
    """One network with one input and one output. `reference` takes TFLite's reference kernels, which the
    tile executor equals bit for bit, instead of the optimized ones. Raises BackendError or InputError.
    """

    def __init__(self, data: bytes, reference: bool = False) -> None:
        kernels = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
        try:
            with _LOCK, _without_notices():
                self._interpreter = Interpreter(
                    model_content=data, experimental_op_resolver_type=kernels, num_threads=1
                )
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BackendError(f"LiteRT refuses the model: {error}") from None
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise InputError(
                f"the model has {len(inputs)} inputs and {len(outputs)} outputs: regrow needs one of each"
            )
        self._input, self._output = inputs[0], outputs[0]
        self.input_shape = tuple(int(size) for size in self._input["shape"])
        self.output_shape = tuple(int(size) for size in self._output["shape"])

    def __call__(self, x: Floats) -> Floats:
        stored = _stored(x, self._input).reshape(len(x), *self.input_shape)
        out = np.empty((len(x), *self.output_shape), self._output["dtype"])
        for i, sample in enumerate(stored):
            self._interpreter.set_tensor(self._input["index"], sample)
            self._interpreter.invoke()
            out[i] = self._interpreter.get_tensor(self._output["index"])
        scale, zero_point = self._output["quantization"]
        real = quant.dequantize(out, scale, zero_point) if scale else out
        return np.asarray(real.reshape(len(x), *self.output_shape[1:]), np.float32)


def _stored(x: Floats, tensor: dict[str, Any]) -> NDArray[Any]:
    scale, zero_point = tensor["quantization"]
    kind = np.dtype(tensor["dtype"])
    return np.asarray(quant.quantize(x, scale, zero_point, kind) if scale else x.astype(kind))
