"""Run on MicroPython: predict every sample of a file, and say what heap and time it takes.

bench PACK INPUTS OUTPUTS: integers of the network's inputs one sample after the other, and of its outputs.
"""

import gc
import json
import sys
import time


def main(pack, inputs, outputs):
    start = allocated()
    end, buffers, predict, times = use(pack, inputs, outputs)
    imports = allocated() - start  # all that stays
    heap = {"import": imports, "load": end - imports - start, "buffers": buffers, "predict": predict}
    return {"heap": heap, "us": times}


def use(pack, inputs, outputs):
    """Heap in use once the network is loaded, what the caller's buffers take, and what `run` tells."""
    import regrow

    network = regrow.load(pack)
    loaded = allocated()
    x = [bytearray(info.size * info.item) for info in network.inputs]
    y = [bytearray(info.size * info.item) for info in network.outputs]
    buffers = allocated() - loaded
    times, predict = run(network, x, y, inputs, outputs)
    network.close()
    return loaded, buffers, predict, times


def allocated():
    gc.collect()
    return gc.mem_alloc()


def run(network, x, y, inputs, outputs):
    """Microseconds of each prediction, and the most heap that one allocated."""
    times = []
    most = 0
    with open(inputs, "rb") as source, open(outputs, "wb") as target:
        while source.readinto(x[0]):
            gc.collect()
            before = gc.mem_alloc()
            started = time.ticks_us()
            network.predict(x, y)
            taken = time.ticks_diff(time.ticks_us(), started)
            most = max(most, gc.mem_alloc() - before)
            times.append(taken)
            for each in y:
                target.write(each)
    return times, most


print(json.dumps(main(*sys.argv[1:])))
