"""A loaded network: takes samples from buffers of the caller and fills others with the outputs."""

import json
import struct

from .errors import InputError
from .executor import Executor, flip

_ITEM = b"\x01\x01\x02\x04\x08\x04\x01"
_NAMES = ("int8", "uint8", "int16", "int32", "int64", "float32", "bool")


class TensorInfo:
    """An input or output: real value = (integer - zero_point) * scale; `.shape .dtype .size` (values)."""

    def __init__(self, shape, dtype, scale_bits, zero_point, place):
        self.shape = tuple(shape)
        self.dtype = _NAMES[dtype]
        self.scale_bits = scale_bits
        self.scale = struct.unpack("<f", struct.pack("<I", scale_bits))[0]
        self.zero_point = zero_point
        self.place = place
        self.size = 1
        for size in shape:
            self.size *= size
        self.item = _ITEM[dtype]
        self.sign = 0x80 if dtype == 0 else 0


class Network:
    """`.name .version .inputs .outputs`, and `predict`."""

    def __init__(self, file, memory):
        """`file`: as `resident.open_resident` gives it; `memory`: a bytearray of the size it names."""
        about = json.load(file)
        self.executor = Executor(file, about, memory)
        self.name = about["name"]
        self.version = about["version"]
        self.inputs = [TensorInfo(*each) for each in about["inputs"]]
        self.outputs = [TensorInfo(*each) for each in about["outputs"]]
        self._given = [None]
        self._taken = [None]
        self.close = file.close

    def predict(self, x, y):
        """Run one sample: x holds the input and y takes the output, in the order of their shapes.

        Bytes-like buffers hold the integers of the tensor's type, array('f') real units; a list of buffers
        where the network has several inputs or outputs. Raises InputError for anything else, before y is
        touched.
        """
        given = _several(x, self._given)
        taken = _several(y, self._taken)
        _check(given, self.inputs, "input")
        _check(taken, self.outputs, "output")
        memory = self.executor.memory
        for i in range(len(given)):
            info = self.inputs[i]
            if isinstance(given[i][0], float):
                _quantize(given[i], memory, info)
            else:
                flip(given[i], 0, memory, info.place, info.size * info.item, info.sign)
        self.executor.run()
        for i in range(len(taken)):
            info = self.outputs[i]
            if isinstance(taken[i][0], float):
                _dequantize(memory, taken[i], info)
            else:
                flip(memory, info.place, taken[i], 0, info.size * info.item, info.sign)


def _several(buffers, one):
    """A list of buffers; one alone goes into the list kept for it, as predict allocates nothing."""
    if isinstance(buffers, list) or isinstance(buffers, tuple):  # noqa: SIM101 (a tuple would be allocated)
        return buffers
    one[0] = buffers
    return one


def _check(buffers, infos, what):
    if len(buffers) != len(infos):
        raise InputError(f"{len(buffers)} buffers were given for {len(infos)} {what}s")
    for i in range(len(infos)):
        buffer = buffers[i]
        if isinstance(buffer, str) or (what == "output" and isinstance(buffer, bytes)):
            raise InputError(f"the {what} must be a bytearray, memoryview or array")
        size = infos[i].size
        if isinstance(buffer, bytes) or isinstance(buffer, bytearray):  # noqa: SIM101
            size *= infos[i].item
        if len(buffer) != size:
            raise InputError(f"the {what} holds {len(buffer)} values where {size} are needed")


def _quantize(x, arena, info):
    from .kernels import real

    zero = info.zero_point + info.sign
    if real.quantize(x, arena, info.place, info.size, info.scale_bits, zero) != info.size:
        raise InputError("the input contains NaN, which no integer stands for")


def _dequantize(arena, y, info):
    for i in range(info.size):
        y[i] = (arena[info.place + i] - info.sign - info.zero_point) * info.scale
