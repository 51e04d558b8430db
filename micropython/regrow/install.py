"""The resident form of a pack: one file in flash from which the executor runs with almost nothing in RAM.

It is made once, when a pack is installed, and from then on read front to back for every inference:

    RGR1, pack id (32 bytes), SHA-256 of all that follows (32), u32 place of the description, u32 memory
    per op: 33 words of parameters, then whatever its kernel reads, in the order in which it reads it
    the description, JSON: see `Executor`

The memory of a network is its arena, longer where an op needs more: an op works in a stretch of it where no
activation stands just then, the largest there is.
"""

import json
import os
import struct
import sys
from array import array
from hashlib import sha256

from micropython import const

from . import unload
from .errors import CapacityError, PackError
from .graph import Graph
from .weights import Weights

_PACKAGE = __name__[: __name__.rfind(".")]
_WORDS = const(33)
_AGAIN = const(30)
_HEAD = const(76)
_FAMILIES = """
elementwise 0 18 41
pool 1 17
movement 2 34 39 45
conv 3 9
depthwise 4
reshape 22
softmax 25
reduce 40 74
argmax 56
transpose_conv 67
resize 97
lookup 255
"""
# Files in kernels/ that run operators, and in layouts/ that write their records, and the operators' codes. As
# one text, so that MicroPython keeps no name of those that a board never imports.


def family(code):
    """The file for the operator of that code; PackError if there is none."""
    for line in _FAMILIES.split("\n"):
        if str(code) in line.split()[1:]:
            return line.split()[0]
    raise PackError(f"the graph has an op with operator code {code}, which no kernel runs")


class Output:
    """Where a layout writes the record of its op: first `params`, then `write` as often as it likes.

    `kernel`: the file in kernels/ that runs the op, its family's unless a layout chooses another.
    """

    def __init__(self, file, parts, reader, scratch):
        self._file = file
        self._parts = parts
        self._reader = reader
        self._scratch = scratch
        self._digest = sha256()
        self._params = array("i", bytes(4 * _WORDS))
        self.kernels = []
        self.views = []
        self.records = 0

    def begin(self, kernel, place):
        """The op that comes runs by that kernel and works at that place of the memory."""
        self.kernel = kernel
        self._params[_WORDS - 1] = _number(self.views, place)

    def params(self, *values):
        """The op's parameters, at most 30 of 0 to 2**31 - 1: kernels load them as unsigned words."""
        self._params[_WORDS - 2] = _number(self.kernels, self.kernel)
        for i in range(_AGAIN):
            self._params[i] = values[i] if i < len(values) else 0
        self._params[_AGAIN] = 0
        self.records += 1
        self.write(self._params)

    def tell(self):
        return self._file.tell()

    def write(self, data):
        """Bytes, a bytearray, memoryview or array; a multiple of 4 bytes in all keeps the next op aligned."""
        self._file.write(data)
        self._digest.update(data)

    def weights(self, tensor):
        """The weights of a tensor; PackError unless they are as many levels as it has."""
        weights = Weights(self._parts.weights(tensor.place), self._scratch)
        if weights.count != tensor.count or weights.dtype:
            raise PackError(
                f"weights {tensor.place} are {weights.count} of dtype {weights.dtype}, "
                f"but the graph needs {tensor.count} levels"
            )
        name = f"{_PACKAGE}.codecs.gridmodel"
        if name in sys.modules:
            unload(name)  # it has read what it reads
        return weights

    def constant(self, tensor):
        """A reader that stands at a constant's data."""
        self._reader.seek(tensor.place)
        return self._reader

    def integers(self, tensor):
        """Yields the values of an int32 constant."""
        reader = self.constant(tensor).twin()
        if not tensor.coded:
            for _ in range(tensor.count):
                yield reader.i32()
            return
        from .rice import read

        shift = reader.u8()
        shifts = None
        if shift & 0x80:
            shifts = read(reader.twin(), tensor.count)
            for _ in read(reader, tensor.count):
                pass  # the values are behind
        for value in read(reader, tensor.count):
            left = (shift & 0x7F) + (next(shifts) if shifts else 0)
            if not 0 <= left <= 31 or not -0x80000000 <= value << left <= 0x7FFFFFFF:
                raise PackError("a coded constant of the graph is out of range")
            yield value << left

    def close(self, pack_id, memory, description):
        """Write the description and, at the front, the head."""
        sizes = struct.pack("<II", self._file.tell(), memory)
        self.write(json.dumps(description))
        self._digest.update(sizes)
        self._file.seek(0)
        for each in (b"RGR1", pack_id, self._digest.digest(), sizes):
            self._file.write(each)
        self._file.flush()


def install(parts, path, scratch):
    """Write the resident form of the pack with those parts to `path`; it is there whole or not at all.

    `scratch`: for all decoders, see `plan.needs`. The parts are closed.

    Raises PackError for a network that breaks the format or has an op that no kernel runs, CapacityError if
    heap or storage are too small.
    """
    fresh = path + ".new"
    try:
        with open(fresh, "wb") as file:
            _write(parts, file, scratch)
        _replace(fresh, path)
    except OSError as error:
        _remove(fresh)
        raise CapacityError(f"cannot write {path}, the resident form of the network: {error}") from None
    except Exception:
        _remove(fresh)
        raise
    finally:
        parts.close()


def _write(parts, file, scratch):
    reader = parts.graph()
    graph = Graph(reader)
    memory, stretches = _plan(graph)
    out = Output(file, parts, reader, scratch)
    file.write(bytes(_HEAD))
    chain = []
    for n, op in enumerate(graph.ops()):
        place, size = stretches[2 * n], stretches[2 * n + 1]
        chain.append((op, family(op.code), place, size))
        if op.outputs and op.outputs[0].room < op.outputs[0].size:
            continue
        if len(chain) > 1:
            bands = _layout("bands")
            bands.write(chain, out, _lay)
            unload(bands.__name__)
        else:
            out.begin(family(op.code), place)
            _lay(op, out, size)
        chain = []
    description = {
        "name": parts.name,
        "version": parts.version,
        "ops": out.records,
        "kernels": out.kernels,
        "views": out.views,
        "inputs": [_describe(graph.tensor(number)) for number in graph.inputs],
        "outputs": [_describe(graph.tensor(number)) for number in graph.outputs],
        "variables": [(each.place, each.size, each.fill ^ 0x80) for each in graph.variables()],
    }
    out.close(parts.id, memory, description)


def _plan(graph):
    from .plan import plan

    planned = plan(graph, lambda op: _lay(op, None, None))
    unload(".".join((_PACKAGE, "plan")))
    return planned


def _lay(op, out, size):
    """Write the record of an op that has `size` bytes to work in; with None, tell how many it needs at least.

    The layout leaves the heap again: no two of them are wanted at one time.
    """
    layout = _layout(family(op.code))
    steps = layout.lay(op, out)
    least = next(steps)
    if size is not None:
        try:  # noqa: SIM105 (boards have no contextlib)
            steps.send(size)
        except StopIteration:
            pass
    unload(layout.__name__)
    return least


def _layout(name):
    return __import__(f"{_PACKAGE}.layouts.{name}", None, None, ("lay",))


def _describe(tensor):
    """What a TensorInfo takes."""
    dtype = 1 if tensor.unsigned else tensor.dtype
    return tensor.shape, dtype, tensor.scale, tensor.zero_point + 128 * tensor.unsigned, tensor.place


def _number(items, item):
    """The place of the item in the list, where it is put if it is not there."""
    if item not in items:
        items.append(item)
    return items.index(item)


def _replace(fresh, path):
    try:
        os.rename(fresh, path)
    except OSError:  # FAT does not rename onto a file
        os.remove(path)
        os.rename(fresh, path)


def _remove(path):
    try:  # noqa: SIM105 (boards have no contextlib)
        os.remove(path)
    except OSError:
        pass  # it was not there
