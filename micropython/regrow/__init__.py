"""Run regrow packs on a stock MicroPython board: `regrow.load(path).predict(x, y)`."""

import gc
import sys

__version__ = "0.1.0"


def load(path, trust=None):
    """A Network from a `.rgp` file or a slot's folder, ready to predict.

    The first time, its resident form is written beside the pack (PACK.resident, or `resident` in the slot's
    folder); from then on it is loaded from there. `trust`: the public keys whose packs may run; None checks
    no signature. Raises SignatureError, PackError, and CapacityError, with the bytes needed and the bytes
    there, if heap or storage are too small.
    """
    try:
        return start(*reserve(path, trust))
    except MemoryError:
        from .errors import CapacityError

        gc.collect()
        heap = gc.mem_free() + gc.mem_alloc()
        raise CapacityError(f"the heap of {heap} bytes is too small to load {path}") from None


def reserve(path, trust=None):
    """What `start` takes: the resident form of the pack, open, and the memory of its network.

    That wants one long piece of the heap: a caller may reserve it before the heap fills.
    """
    path = path.rstrip("/")
    found = None
    threshold = gc.threshold()
    gc.threshold(2048)  # what stays, as modules and names, must stay at the front of the heap
    try:
        from .resident import allocate, claim, open_resident

        found = open_resident(path) if trust is None else None
        if found is None:
            claim(path)
            _install(path, trust)
            found = open_resident(path)
        file, size = found
        return file, allocate(size)
    except Exception:
        if found:
            found[0].close()
        raise
    finally:
        gc.threshold(threshold)


def start(file, memory):
    """The Network of what `reserve` gives."""
    threshold = gc.threshold()
    gc.threshold(2048)
    try:
        from .network import Network

        return Network(file, memory)
    except Exception:
        file.close()
        raise
    finally:
        gc.threshold(threshold)


def _install(path, trust):
    """Write the resident form if it is not there; the modules that do it leave the heap again."""
    before = set(sys.modules)
    parts = None
    try:
        from .names import WRITERS, keep

        keep(sys.modules[__name__], WRITERS)
        unload(__name__ + ".names")
        for module in ("codecs.gridkernel", "layouts.forms"):  # machine code: some ports keep a record of it
            __import__(f"{__name__}.{module}")
        from .parts import open_parts

        parts = open_parts(path, trust)
        if parts:
            for module in ("pack", "signing", "sha512"):  # they make room for what comes
                name = f"{__name__}.{module}"
                if name in sys.modules and name not in before:
                    unload(name)
            from .install import install
            from .resident import path_of

            install(parts, path_of(path))
    finally:
        if parts:
            parts.close()
        for name in list(sys.modules):
            if name not in before:
                unload(name)
        gc.collect()


def unload(name):
    """Give back the heap of a module that is needed once in a while."""
    del sys.modules[name]
    package, _, module = name.rpartition(".")
    if hasattr(sys.modules.get(package), module):  # not of an import that broke off
        delattr(sys.modules[package], module)
