"""The tile executor: runs a network from its resident form, of which it keeps almost nothing in RAM."""

import gc
from array import array

import micropython
from micropython import const

_WORDS = const(33)
_AGAIN = const(30)
_FIRST = const(76)


class Executor:
    """A network ready to run in one stretch of `.memory`, which has the activations in it, as level + 128.

    `file`: open on a resident form that is whole; `about`: its description, a dict of ops (how many), kernels
    (modules in kernels/), views (where in the memory ops work), variables (place, bytes, fill), and for
    Network name, version, inputs, outputs; `memory`: a bytearray as long as the network needs.
    """

    def __init__(self, file, about, memory):
        self.file = file
        self.ops = about["ops"]
        self.memory = memory
        view = memoryview(memory)
        self._views = [view[place:] for place in about["views"]]
        self._params = array("i", bytes(4 * _WORDS))
        self.kernels = [_kernel(name) for name in about["kernels"]]
        for place, count, value in about["variables"]:
            fill(self.memory, place, count, value)

    def run(self):
        """From the inputs in the memory to the outputs there."""
        file = self.file
        p = self._params
        file.seek(_FIRST)
        for _ in range(self.ops):
            file.readinto(p, 4 * _WORDS)
            again = p[_AGAIN]
            if again:  # an op that runs band by band reads the same for each of them
                place = file.tell()
                file.seek(again)
            self.kernels[p[_WORDS - 2]](p, self.memory, self._views[p[_WORDS - 1]], file)
            if again:
                file.seek(place)


def _kernel(name):
    gc.collect()
    package = __name__[: __name__.rfind(".")]
    return __import__(f"{package}.kernels.{name}", None, None, ("run",)).run


@micropython.viper
def flip(source: ptr8, source_at: int, target: ptr8, target_at: int, count: int, sign: int):
    """Copy bytes between level and level + 128 (sign 0x80), or as they are (0)."""
    s = ptr8(uint(source) + source_at)
    t = ptr8(uint(target) + target_at)
    while count:
        t[0] = s[0] ^ sign
        s = ptr8(uint(s) + 1)
        t = ptr8(uint(t) + 1)
        count -= 1


@micropython.viper
def fill(memory: ptr8, place: int, count: int, value: int):
    while count:
        memory[place] = value
        place += 1
        count -= 1
