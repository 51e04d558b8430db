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
    from .errors import CapacityError

    path = path.rstrip("/")
    file = None
    try:
        from .resident import open_resident

        file = open_resident(path) if trust is None else None
        if file is None:
            _install(path, trust)
            file = open_resident(path)
        from .network import Network

        return Network(file)
    except Exception as error:
        if file:
            file.close()
        if isinstance(error, MemoryError):
            gc.collect()
            heap = gc.mem_free() + gc.mem_alloc()
            raise CapacityError(f"the heap of {heap} bytes is too small to load {path}") from None
        raise


def _install(path, trust):
    """Write the resident form if it is not there; the modules that do it leave the heap again."""
    before = set(sys.modules)
    threshold = gc.threshold()
    gc.threshold(2048)  # what stays, as interned names, must stay at the front of the heap
    try:
        from .install import install

        install(path, trust)
    finally:
        for name in list(sys.modules):
            if name not in before:
                unload(name)
        gc.threshold(threshold)
        gc.collect()


def unload(name):
    """Give back the heap of a module that is needed once in a while."""
    del sys.modules[name]
    package, _, module = name.rpartition(".")
    if package in sys.modules:
        delattr(sys.modules[package], module)
