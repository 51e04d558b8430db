"""Run a `.tflite` over many samples by LiteRT, in real units."""

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType  # type: ignore[import-untyped]
from numpy.typing import NDArray
from regrow.errors import InputError

Floats = NDArray[np.float32]
Predict = Callable[[Floats], Floats]
"""(n, *input shape) -> (n, *output shape), both in real units."""


class Runner:
    """One network with one input and one output. `reference` takes TFLite's reference kernels, which the
    tile executor equals bit for bit, instead of the optimized ones."""

    def __init__(self, data: bytes, reference: bool = False) -> None:
        kernels = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
        try:
            self._interpreter = Interpreter(
                model_content=data, experimental_op_resolver_type=kernels, num_threads=1
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise InputError(f"LiteRT refuses the model: {str(error).splitlines()[0]}") from None
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise InputError(
                f"the model has {len(inputs)} inputs and {len(outputs)} outputs: regrow needs one of each"
            )
        self._input, self._output = inputs[0], outputs[0]
        self.input_shape = tuple(int(size) for size in self._input["shape"])
        self.output_shape = tuple(int(size) for size in self._output["shape"])

    def __call__(self, x: Floats) -> Floats:
        stored = to_stored(x, self._input)
        out = np.empty((len(x), *self.output_shape[1:]), self._output["dtype"])
        for sample, result in zip(stored, out, strict=True):
            self._interpreter.set_tensor(self._input["index"], sample.reshape(self.input_shape))
            self._interpreter.invoke()
            result[...] = self._interpreter.get_tensor(self._output["index"])[0]
        return to_real(out, self._output)


def to_stored(x: Floats, tensor: dict[str, Any]) -> NDArray[Any]:
    """Real units in the tensor's own type: q = round(x / scale) + zero point, clamped."""
    kind = np.dtype(tensor["dtype"])
    scale, zero = tensor["quantization"]
    if kind.kind == "f" or not scale:
        return x.astype(kind)
    limits = np.iinfo(kind)
    return np.asarray(np.clip(np.rint(x / np.float32(scale)) + zero, limits.min, limits.max).astype(kind))


def to_real(q: NDArray[Any], tensor: dict[str, Any]) -> Floats:
    scale, zero = tensor["quantization"]
    if q.dtype.kind == "f" or not scale:
        return np.asarray(q.astype(np.float32))
    return np.asarray((q.astype(np.float32) - np.float32(zero)) * np.float32(scale))
