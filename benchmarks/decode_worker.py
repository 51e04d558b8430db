"""Run on MicroPython: decode_worker PACK prints the nanoseconds that each of its weights parts takes."""

import gc
import json
import sys
import time

from regrow.pack import ROLE_WEIGHTS, USE_EXECUTOR, open_pack
from regrow.weights import Scratch, Weights

TILE = 1024


def grow(weights, tile):
    weights.rewind()
    left = weights.count
    while left:
        size = min(left, TILE)
        weights.read_levels(tile[:size])
        left -= size


def main(path):
    pack = open_pack(path)
    scratch = Scratch()
    tile = memoryview(bytearray(TILE))
    costs = {}
    for part in pack.manifest.parts:
        if part.role == ROLE_WEIGHTS and part.use & USE_EXECUTOR:
            weights = Weights(pack.reader(part), scratch)
            gc.collect()
            started = time.ticks_us()
            grow(weights, tile)
            costs[str(part.number)] = 1000 * time.ticks_diff(time.ticks_us(), started)
    return costs


print(json.dumps(main(sys.argv[1])))
