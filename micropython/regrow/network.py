"""A loaded network: takes samples from buffers of the caller and fills others with the outputs."""

import struct

from .errors import InputError
from .executor import flip

_ITEM = b"\x01\x01\x02\x04\x08\x04\x01"
_NAMES = ("int8", "uint8", "int16", "int32", "int64", "float32", "bool")


class TensorInfo:
    """An input or output: real value = (integer - zero_point) * scale; `.shape .dtype .size` (values)."""

    def __init__(self, tensor):
        self.shape = tensor.shape
        self.dtype = _NAMES[tensor.dtype]
        self.scale_bits = tensor.scale
        self.scale = struct.unpack("<f", struct.pack("<I", tensor.scale))[0]
        self.zero_point = tensor.zero_point
        self.size = tensor.count
        self.place = tensor.place


class Network:
    """`.name .version .inputs .outputs`, and `predict`."""

    def __init__(self, pack, executor):
        self.name = pack.manifest.name
        self.version = pack.manifest.version
        self.inputs = [TensorInfo(tensor) for tensor in executor.inputs]
        self.outputs = [TensorInfo(tensor) for tensor in executor.outputs]
        executor.inputs = executor.outputs = None
        self._given = [None]
        self._taken = [None]
        self._executor = executor
        self.close = pack.close

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
        arena = self._executor.arena
        for i in range(len(given)):
            info = self.inputs[i]
            if isinstance(given[i][0], float):
                _quantize(given[i], arena, info)
            else:
                flip(given[i], 0, arena, info.place, info.size)
        self._executor.run()
        for i in range(len(taken)):
            info = self.outputs[i]
            if isinstance(taken[i][0], float):
                _dequantize(arena, taken[i], info)
            else:
                flip(arena, info.place, taken[i], 0, info.size)


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
        if isinstance(buffers[i], str) or (what == "output" and isinstance(buffers[i], bytes)):
            raise InputError(f"the {what} must be a bytearray, memoryview or array")
        if len(buffers[i]) != infos[i].size:
            raise InputError(f"the {what} holds {len(buffers[i])} values where {infos[i].size} are needed")


def _quantize(x, arena, info):
    from .kernels import real

    if real.quantize(x, arena, info.place, info.size, info.scale_bits, info.zero_point + 128) != info.size:
        raise InputError("the input contains NaN, which no integer stands for")


def _dequantize(arena, y, info):
    for i in range(info.size):
        y[i] = (arena[info.place + i] - 128 - info.zero_point) * info.scale
