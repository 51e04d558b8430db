"""A board at a serial port, by the tool `mpremote`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regrow.errors import RegrowError

from regrow_host.files import temporary_folder
from regrow_host.unixport import SCRIPTS, TIMEOUT, answer

PREFIX = "regrow-tmp-"


class Board:
    """A board with the runtime installed. Its program is stopped by a soft reset and not started again."""

    def __init__(self, port: str) -> None:
        self._port = port

    def run(self, script: str, files: Mapping[str, Path]) -> Any:
        """The JSON that a script prints, which takes the paths of these files as its arguments.

        The files are on the board only meanwhile. Raises RegrowError, CapacityError if the heap is too small.
        """
        names = [PREFIX + name for name in files]
        copies = [
            word
            for name, path in zip(names, files.values(), strict=True)
            for word in ("fs", "cp", str(path), f":{name}", "+")
        ]
        with temporary_folder() as folder:
            program = folder / f"{script}.py"
            arguments = f"import sys\nsys.argv.clear()\nsys.argv.extend({[script, *names]})\n"
            program.write_text(arguments + (SCRIPTS / program.name).read_text())
            try:
                done = self._mpremote(*copies, "run", str(program))
            finally:
                self._mpremote("resume", "exec", CLEAN)
        return answer(f"{script} at {self._port}", done.returncode, done.stdout, done.stderr)

    def _mpremote(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mpremote", "connect", self._port, *words]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            raise RegrowError(f"the board at {self._port} gave no answer in {TIMEOUT} seconds") from None


CLEAN = f"""
import os
for name in os.listdir():
    if name.startswith({PREFIX!r}):
        os.remove(name)
"""
