"""Where the study keeps what it must not lose or fetch twice: data sets, trained models, finished trials."""

import os
from pathlib import Path

from regrow.errors import InputError


def folder(kind: str) -> Path:
    """`$REGROW_CACHE/KIND`, else `~/.cache/regrow/study/KIND`; made if it is not there. Raises InputError."""
    home = os.environ.get("REGROW_CACHE")
    path = (Path(home) if home else Path.home() / ".cache" / "regrow" / "study") / kind
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the cache folder {path}: {error.strerror}") from None
    return path
