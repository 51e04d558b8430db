"""regrow on a Pi and on the host: read packs, grow weights, run, report."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regrow.loading import load
    from regrow.network import Network, TensorInfo

__version__ = "0.1.0"

__all__ = ["Network", "TensorInfo", "__version__", "load"]

_HOMES = {"Network": "network", "TensorInfo": "network", "load": "loading"}


def __getattr__(name: str) -> Any:
    """Imported when it is first used: commands begin without numpy."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"regrow.{_HOMES[name]}"), name)
