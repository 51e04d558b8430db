"""The first load of a pack: its resident form is written, by modules that come for a step of it and leave."""

import gc
import sys

from . import leave, unload

_PACKAGE = __name__[: __name__.rfind(".")]


def prepare(path, trust, before):
    """What `install` takes for the pack at `path`; None if its resident form is there.

    `path` and `trust` as in regrow.load, which raises what this does; `before`: the modules that stay.
    """
    _keep(("parts", "install", "layouts.conv"))  # few packs have no convolution
    parts, target = _open(path, trust)
    leave(before, "firstload", "parts", "reader")
    if not parts:
        return None
    try:
        codecs = parts.codecs()
        _keep(codecs)
        for codec in codecs:
            __import__(".".join((_PACKAGE, codec)))
        coming, *scratch = _needs(parts)
        coming = tuple(coming)  # at the front of the heap, now that there is room
        gc.collect()
        _keep(coming)
        scratch = _scratch(*scratch)
        if "layouts.conv" in coming:
            for module in ("layouts.channels", "layouts.forms"):  # some ports keep a record of machine code
                __import__(".".join((_PACKAGE, module)))
    except Exception:
        parts.close()
        raise
    return parts, target, scratch


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
    unload(".".join((_PACKAGE, "names")))
