"""Write the probe part: the self-test of a network (docs/pack-format.md)."""

import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from regrow import Network, TensorInfo, probe, quant
from regrow.probe import EXECUTOR_INTEGERS, GROWN, LITERAL, LITERT_FLOATS, LITERT_INTEGERS

from regrow_host.varint import varint

Floats = NDArray[np.float32]

SAMPLES = 2
LITERAL_BYTES = 256
TOLERANCE = 0.02
"""Of the range of the outputs: LiteRT's kernels differ a little from machine to machine."""
LEVELS_TOLERANCE = 4.0


def write(network: Network, samples: Floats, seed: int) -> bytes:
    """The probe of a loaded network.

    `samples`, (n, *input shape) in real units, give the range of grown inputs, and small inputs themselves.
    """
    info = network.inputs[0]
    low, high = (float(samples.min()), float(samples.max())) if info.dtype.kind == "f" else (0.0, 0.0)
    if math.prod(info.shape) * info.dtype.itemsize <= LITERAL_BYTES:
        form, given = LITERAL, _stored(info, samples[:SAMPLES])
        stored = given.tobytes()
    else:
        form, given = GROWN, probe.inputs(network.inputs, SAMPLES, seed, low, high)[0]
        stored = b""
    outputs = network.predict(given)
    if network.backend == "numpy":
        domain, tolerance = EXECUTOR_INTEGERS, 0.0
    elif info.dtype.kind == "f":
        domain, tolerance = LITERT_FLOATS, TOLERANCE * float(np.ptp(outputs) or 1)
    else:
        domain, tolerance = LITERT_INTEGERS, LEVELS_TOLERANCE
    head = struct.pack("<BBBBIfff", probe.FORM, domain, len(given), form, seed, low, high, tolerance)
    sizes = varint(given[0].nbytes) + varint(outputs[0].nbytes)
    return head + sizes + stored + bytes(outputs.tobytes())


def _stored(info: TensorInfo, samples: Floats) -> NDArray[Any]:
    """Samples in the input's own type, (n, *shape)."""
    stored = quant.quantize(samples, info.scale, info.zero_point, info.dtype) if info.scale else samples
    return np.asarray(stored, info.dtype).reshape(-1, *info.shape)
