"""The networks a pack is made of, one per runtime, and the weight tensors that they share."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from regrow_host import tflite
from regrow_host.biases import Biases
from regrow_host.options import Floats, Option
from regrow_host.tflite import NewWeights

INTEGERS = "int8", "uint8"


@dataclass(frozen=True)
class Network:
    """A `.tflite` for one runtime, or for both, whose weights can be exchanged.

    `tensors` gives per number of a weight tensor its index and dtype in the file. With `biases` those of the
    network are corrected, whatever weights it has.
    """

    use: int
    data: bytes
    tensors: dict[int, tuple[int, str]]
    biases: Biases | None = None

    @classmethod
    def of(cls, use: int, source: bytes, biases: Biases | None = None) -> "Network":
        data = tflite.build(tflite.read(source))  # every tensor with bytes of its own
        if biases:
            data = biases.corrected(data)
        model = tflite.read(data)
        tensors = {
            each.number: (each.tensor, model.tensors[each.tensor].dtype)
            for each in tflite.weight_tensors(model)
        }
        return cls(use, data, tensors, biases)

    def with_options(self, chosen: Mapping[int, Option]) -> bytes:
        """The `.tflite` with the weights that grow from the chosen options, by number."""
        weights = {}
        for number, option in chosen.items():
            index, dtype = self.tensors[number]
            if dtype not in INTEGERS:
                weights[index] = NewWeights(option.values.astype(np.dtype(dtype)), shift=option.shift)
            elif option.levels is not None:
                weights[index] = NewWeights(option.levels, option.scales, option.shift)
        return self._with(weights)

    def with_values(self, values: Mapping[int, Floats]) -> bytes:
        """The `.tflite` of a float network with other weights, by number."""
        return self._with({self.tensors[number][0]: NewWeights(each) for number, each in values.items()})

    def _with(self, weights: Mapping[int, NewWeights]) -> bytes:
        if not weights:
            return self.data
        network = tflite.with_weights(self.data, weights)
        return self.biases.corrected(network) if self.biases else network
