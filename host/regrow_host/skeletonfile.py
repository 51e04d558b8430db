"""Write the skeleton part: a `.tflite` without its weights (docs/pack-format.md)."""

import struct
import zlib

from regrow import skeleton

from regrow_host import tflite
from regrow_host.varint import varint

DTYPES = {"int8": 0, "float32": 1, "float16": 2, "uint8": 3}


def write(data: bytes) -> bytes:
    """The skeleton part of a `.tflite`: every weight tensor becomes a hole."""
    model = tflite.read(data)
    holes = []
    for weights in tflite.weight_tensors(model):
        tensor = model.tensors[weights.tensor]
        if tensor.buffer is not None:
            holes.append((*tensor.buffer, weights.number, DTYPES[tensor.dtype]))
    part = struct.pack("<BI", skeleton.FORM, len(data)) + varint(len(holes))
    rest, position = [], 0
    for offset, size, number, dtype in sorted(holes):
        part += varint(offset) + varint(number) + bytes([dtype])
        rest.append(data[position:offset])
        position = offset + size
    return part + zlib.compress(b"".join([*rest, data[position:]]), 9)
