"""The first load of a pack: its resident form is written, by modules that come for a step of it and leave."""

import sys

from . import leave, unload

_PACKAGE = __name__[: __name__.rfind(".")]
_MACHINE_CODE = (("codecs.grid", "codecs.gridkernel"), ("layouts.conv", "layouts.forms"))


def write(path, trust, before):
    """Write the resident form of the pack at `path`, as regrow.load takes both, unless it is there.

    `before`: the modules that stay. Raises what regrow.load does.
    """
    parts = None
    try:
        _keep(("parts", "install"))
        parts, target = _open(path, trust)
        leave(before, "firstload", "parts", "reader")
        if parts:
            coming = _needs(parts)
            leave(before, "firstload", "parts", "reader")
            _keep(coming)
            for user, module in _MACHINE_CODE:  # some ports keep a record of it
                if user in coming:
                    __import__(f"{_PACKAGE}.{module}")
            from .install import install

            install(parts, target)
    finally:
        if parts:
            parts.close()


def _open(path, trust):
    """The parts of a pack, None if its resident form is there, and the path of that."""
    from .parts import open_parts
    from .resident import claim, path_of

    claim(path)
    return open_parts(path, trust), path_of(path)


def _needs(parts):
    from .plan import needs

    return needs(parts)


def _keep(modules):
    from .names import keep

    keep(sys.modules[_PACKAGE], modules)
    unload(f"{_PACKAGE}.names")
