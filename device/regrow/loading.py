"""Load a pack: by LiteRT where it and the pack allow it, else by numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from os import PathLike

from regrow.errors import BackendError
from regrow.executor import Executor
from regrow.litert import LiteRT, interpreter_module
from regrow.network import Engine, Network
from regrow.pack import USE_EXECUTOR, USE_LITERT, Pack, open_pack

_TARGETS = {"litert": USE_LITERT, "numpy": USE_EXECUTOR}
_ENGINES: dict[str, Callable[[Pack], Engine]] = {"litert": LiteRT.of, "numpy": Executor.of}


def load(
    path: str | PathLike[str] | Pack, backend: str | None = None, trust: Iterable[bytes] | None = None
) -> Network:
    """The network of a pack: a `.rgp` file, a slot's folder, or a Pack that the caller opened and closes.

    backend: "litert", "numpy", or None for LiteRT where it and the pack allow it, else numpy.
    trust: public keys (32 bytes each) whose packs are accepted; None accepts any valid signature.
    Raises PackError (SignatureError) for a bad pack, BackendError if the backend is not installed
    or the pack not made for it.
    """
    if backend is not None and backend not in _ENGINES:
        raise BackendError(f"there is no backend {backend!r}, only litert and numpy")
    pack = path if isinstance(path, Pack) else open_pack(str(path), trust)
    close: Callable[[], object] = (lambda: None) if pack is path else pack.close
    try:
        backend = backend or _best_backend(pack)
        if not pack.manifest.targets & _TARGETS[backend]:
            other = next(name for name in _TARGETS if name != backend)
            raise BackendError(f"the pack has no network for {backend}: use the backend {other}")
        engine = _ENGINES[backend](pack)
    except BaseException:
        close()
        raise
    return Network(pack.manifest.name, pack.manifest.version, engine, close)


def _best_backend(pack: Pack) -> str:
    if not pack.manifest.targets & USE_LITERT:
        return "numpy"
    try:
        interpreter_module()
    except BackendError:
        if pack.manifest.targets & USE_EXECUTOR:
            return "numpy"
        raise
    return "litert"
