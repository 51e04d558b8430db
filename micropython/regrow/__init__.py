"""Run regrow packs on a stock MicroPython board: `regrow.load(path).predict(x, y)`."""

__version__ = "0.1.0"


def load(path, trust=None):
    """A Network from a `.rgp` file or a slot's folder, ready to predict.

    `trust`: the public keys whose packs may run; None checks no signature. Raises SignatureError, PackError,
    and CapacityError, with the bytes needed and the bytes there, if the heap is too small.
    """
    pack = None
    try:
        from .executor import Executor
        from .network import Network
        from .pack import open_pack

        pack = open_pack(path, trust)
        return Network(pack, Executor(pack))
    except Exception as error:
        if pack:
            pack.close()
        if isinstance(error, MemoryError):
            raise _too_small(path) from None
        raise


def _too_small(path):
    import gc

    from .errors import CapacityError

    gc.collect()
    return CapacityError(f"the heap of {gc.mem_free() + gc.mem_alloc()} bytes is too small to load {path}")
