"""How a command begins: Ctrl-C ends it at once, without a traceback, while modules are imported."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

INTERRUPTED = 130
"""The exit code, as shells have it for SIGINT."""


def main() -> int:
    """`regrow-device`."""
    return start("regrow-device", "regrow.cli")


def start(program: str, module: str) -> int:
    """The exit code of `main` of a module, which is imported here."""
    try:
        with leaving_at_once(program):
            command = import_module(module)
        return int(command.main())
    except KeyboardInterrupt:
        return _interrupted(program)


@contextmanager
def leaving_at_once(program: str) -> Iterator[None]:
    """Ctrl-C ends the process right there: nothing is half done yet, and imports answer exceptions oddly."""

    def leave(*_: object) -> None:
        os._exit(_interrupted(program))

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupted(program: str) -> int:
    print(f"{program}: interrupted", file=sys.stderr, flush=True)
    return INTERRUPTED
