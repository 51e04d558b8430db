"""Run on MicroPython: what each op of a network costs, over every sample of a file.

profile PACK INPUTS: integers of the network's inputs, one sample after the other.
"""

import gc
import json
import sys
import time
from array import array

import regrow


class Costs:
    """Per op, over all samples: microseconds, bytes read from the resident form, products left out."""

    def __init__(self, ops):
        self.us, self.read, self.skipped = [array("I", [0] * ops) for _ in range(3)]
        self.op = 0

    def of(self, kernel):
        """The kernel, noting what it costs; it may return how many products with zeros it has skipped."""

        def run(params, memory, work, file):
            op = self.op
            self.op += 1
            place = file.tell() - 4 * len(params)
            started = time.ticks_us()
            self.skipped[op] += kernel(params, memory, work, file) or 0
            self.us[op] += time.ticks_diff(time.ticks_us(), started)
            self.read[op] += file.tell() - place

        return run


def main(pack, inputs):
    network = regrow.load(pack)
    executor = network.executor
    costs = Costs(executor.ops)
    x = [bytearray(info.size * info.item) for info in network.inputs]
    y = [bytearray(info.size * info.item) for info in network.outputs]
    executor.kernels = [costs.of(kernel) for kernel in executor.kernels]
    total = predict(network, x, y, inputs, costs)
    return {
        "us": total,
        "memory": len(executor.memory),
        "ops": [list(op) for op in zip(costs.us, costs.read, costs.skipped)],
    }


def predict(network, x, y, inputs, costs):
    """Microseconds that all samples of the file take."""
    gc.collect()
    total = 0
    with open(inputs, "rb") as file:
        while file.readinto(x[0]):
            for each in x[1:]:
                file.readinto(each)
            costs.op = 0
            started = time.ticks_us()
            network.predict(x, y)
            total += time.ticks_diff(time.ticks_us(), started)
    return total


print(json.dumps(main(*sys.argv[1:])))
