"""The networks a pack is made of, one per runtime, and the weight tensors that they share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrow_host import tflite
from regrow_host.options import Option

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Network:
    """A `.tflite` for one runtime, or for both, whose weights can be exchanged."""

    use: int
    data: bytes
    tensors: dict[int, tuple[int, str]]
    """Per number of a weight tensor, its index and dtype in the `.tflite`."""

    @classmethod
    def of(cls, use: int, data: bytes) -> "Network":
        model = tflite.read(data)
        weights = tflite.weight_tensors(model)
        return cls(
            use, data, {each.number: (each.tensor, model.tensors[each.tensor].dtype) for each in weights}
        )

    def with_options(self, chosen: Mapping[int, Option]) -> bytes:
        """The `.tflite` with the weights that grow from the chosen options, by number."""
        changed: dict[int, tuple[NDArray[Any], Floats | None]] = {}
        for number, option in chosen.items():
            index, dtype = self.tensors[number]
            if dtype != "int8":
                changed[index] = option.values.astype(dtype), None
            elif option.levels is not None:
                changed[index] = option.levels, option.scales
        return tflite.with_weights(self.data, changed)
