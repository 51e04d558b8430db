"""Copies of the models that packs were made from, so that a pack can be measured against its source."""

import os
from hashlib import sha256
from pathlib import Path

HEX = 64


def folder() -> Path:
    """`$REGROW_HOME/sources`, else `~/.cache/regrow/sources`."""
    home = os.environ.get("REGROW_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "regrow") / "sources"


def remember(pack_id: bytes, source: bytes) -> None:
    """Keep a copy of the source model of a pack; as this is a cache, a full disk is no failure."""
    digest = sha256(source).hexdigest()
    try:
        folder().mkdir(parents=True, exist_ok=True)
        _write(folder() / f"{digest}.tflite", source)
        _write(folder() / pack_id.hex(), digest.encode())
    except OSError:
        return


def recall(pack_id: bytes) -> bytes | None:
    """The source model of a pack that was made on this machine, if its copy is there and whole."""
    try:
        digest = (folder() / pack_id.hex()).read_text("ascii")[:HEX]
        source = (folder() / f"{digest}.tflite").read_bytes()
    except (OSError, ValueError):
        return None
    return source if sha256(source).hexdigest() == digest else None


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
