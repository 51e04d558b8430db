"""The networks a pack is made of, one per runtime, and the weight tensors that they share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrow_host import tflite
from regrow_host.options import Option

Floats = NDArray[np.float32]

INTEGERS = "int8", "uint8"


@dataclass(frozen=True)
class Network:
    """A `.tflite` for one runtime, or for both, whose weights can be exchanged.

    `tensors` gives per number of a weight tensor its index and dtype in the file, and where its bytes begin.
    """

    use: int
    data: bytes
    tensors: dict[int, tuple[int, str, int]]

    @classmethod
    def of(cls, use: int, source: bytes) -> "Network":
        data = tflite.build(tflite.read(source))  # every tensor with bytes of its own
        model = tflite.read(data)
        tensors = {}
        for each in tflite.weight_tensors(model):
            tensor = model.tensors[each.tensor]
            tensors[each.number] = each.tensor, tensor.dtype, tensor.buffer[0] if tensor.buffer else 0
        return cls(use, data, tensors)

    def with_options(self, chosen: Mapping[int, Option]) -> bytes:
        """The `.tflite` with the weights that grow from the chosen options, by number."""
        data = bytearray(self.data)
        levels: dict[int, tuple[NDArray[Any], Floats | None]] = {}
        for number, option in chosen.items():
            index, dtype, start = self.tensors[number]
            if dtype not in INTEGERS:
                values = option.values.astype(np.dtype(dtype).newbyteorder("<")).tobytes()
                data[start : start + len(values)] = values
            elif option.levels is not None:
                levels[index] = option.levels, option.scales
        return tflite.with_weights(bytes(data), levels) if levels else bytes(data)
