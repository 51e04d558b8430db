"""Run on MicroPython: predict every sample of a file, and say what heap and time it takes.

bench PACK INPUTS OUTPUTS: integers of the network's inputs one sample after the other, and of its outputs.
"""

import gc
import json
import sys
import time


def main(pack, inputs, outputs):
    start = allocated()
    import regrow

    network = regrow.load(pack)
    loaded = allocated()
    x = [bytearray(info.size * info.item) for info in network.inputs]
    y = [bytearray(info.size * info.item) for info in network.outputs]
    buffers = allocated() - loaded
    times, predict = run(network, x, y, inputs, outputs)
    network.close()
    network = x = y = None
    imports = allocated() - start
    heap = {"import": imports, "load": loaded - imports - start, "buffers": buffers, "predict": predict}
    return {"heap": heap, "us": times}


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
