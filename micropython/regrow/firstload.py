"""The first load of a pack: its resident form is written, by modules that come for a step of it and leave."""

import sys

from . import leave, unload

_PACKAGE = __name__[: __name__.rfind(".")]


def write(path, trust, before):
    """Write the resident form of the pack at `path`, as regrow.load takes both, unless it is there.

    `before`: the modules that stay. Raises what regrow.load does.
    """
    parts = None
    try:
        _keep(("parts", "install", "layouts.conv"))  # few packs have no convolution
        parts, target = _open(path, trust)
        leave(before, "firstload", "parts", "reader")
        if parts:
            codecs = parts.codecs()
            _keep(codecs)
            for codec in codecs:
                __import__(f"{_PACKAGE}.{codec}")
            coming, *scratch = _needs(parts)
            _keep(coming)
            scratch = _scratch(*scratch)
            if "layouts.conv" in coming:
                __import__(f"{_PACKAGE}.layouts.forms")  # some ports keep a record of machine code
            from .install import install

            install(parts, target, scratch)
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
    """What plan.needs gives, after which it leaves the heap."""
    stay = set(sys.modules)
    from .plan import needs

    needed = needs(parts)
    del needs
    leave(stay)
    return needed


def _scratch(table, halves):
    """What decoders work in, while the heap has long pieces."""
    from .weights import Scratch

    scratch = Scratch()
    if table:
        scratch.plan(table, halves)
    return scratch


def _keep(modules):
    from .names import keep

    keep(sys.modules[_PACKAGE], modules)
    unload(f"{_PACKAGE}.names")
