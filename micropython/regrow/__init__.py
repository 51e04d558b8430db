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
    before = set(sys.modules)
    threshold = gc.threshold()
    gc.threshold(2048)  # what stays, as modules and names, must stay at the front of the heap
    try:
        if trust is None:
            found = _resident().open_resident(path)
        if found is None:
            _install(path, trust, before)
            found = _resident().open_resident(path)
        return found[0], _resident().allocate(found[1])
    except Exception:
        if found:
            found[0].close()
        raise
    finally:
        gc.threshold(threshold)
        leave(before)


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


def _install(path, trust, before):
    try:
        found = _firstload().prepare(path, trust, before)
        unload(f"{__name__}.firstload")
        if found:
            from .install import install

            install(*found)
    finally:
        leave(before)


def _firstload():
    from . import firstload  # it leaves before the installation

    return firstload


def _resident():
    from . import resident  # it leaves while it is not needed

    return resident


def leave(before, *but):
    """Give back the heap of the modules that came since `before`, except for those and the errors."""
    for name in list(sys.modules):
        if name not in before and name[name.rfind(".") + 1 :] not in but + ("errors",):  # noqa: RUF005
            unload(name)
    gc.collect()


def unload(name):
    """Give back the heap of a module that is needed once in a while."""
    del sys.modules[name]
    package, _, module = name.rpartition(".")
    if hasattr(sys.modules.get(package), module):  # not of an import that broke off
        delattr(sys.modules[package], module)
