"""On MicroPython: print the outputs of PACK on the file SAMPLES, a line of hex each."""

import binascii
import sys

import regrow
from regrow.samples import Samples

network = regrow.load(sys.argv[1])
samples = Samples(sys.argv[2])
x = bytearray(samples.size)
size = 1
for dim in network.outputs[0].shape:
    size *= dim
y = bytearray(size)
for _ in range(samples.count):
    samples.read(x)
    network.predict(x, y)
    print(binascii.hexlify(y).decode())
