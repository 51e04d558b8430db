"""The networks a pack is made of, one per runtime, and the weight tensors that they share."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from regrow_host import tflite
from regrow_host.options import Doubles, Floats, Option
from regrow_host.tflite import NewWeights

INTEGERS = "int8", "uint8"


@dataclass(frozen=True)
class Network:
    """A `.tflite` for one runtime, or for both, whose weights can be exchanged.

    `tensors` gives per number of a weight tensor its index and dtype in the file.
    """

    use: int
    data: bytes
    tensors: dict[int, tuple[int, str]]

    @classmethod
    def of(cls, use: int, source: bytes) -> "Network":
        data = tflite.build(tflite.read(source))  # every tensor with bytes of its own
        model = tflite.read(data)
        tensors = {
            each.number: (each.tensor, model.tensors[each.tensor].dtype)
            for each in tflite.weight_tensors(model)
        }
        return cls(use, data, tensors)

    def with_options(self, chosen: Mapping[int, Option]) -> bytes:
        """The `.tflite` with the weights that grow from the chosen options, by number."""
        weights = {}
        for number, option in chosen.items():
            index, dtype = self.tensors[number]
            if dtype not in INTEGERS:
                weights[index] = NewWeights(option.values.astype(np.dtype(dtype)), shift=option.shift)
            elif option.levels is not None:
                weights[index] = NewWeights(option.levels, option.scales, option.shift)
        return tflite.with_weights(self.data, weights) if weights else self.data

    def with_values(self, values: Mapping[int, Floats], shifts: Mapping[int, Doubles] | None = None) -> bytes:
        """The `.tflite` of a float network with other weights, by number, and what their biases gain."""
        gains = shifts or {}
        weights = {
            self.tensors[number][0]: NewWeights(each, shift=gains.get(number))
            for number, each in values.items()
        }
        return tflite.with_weights(self.data, weights)
