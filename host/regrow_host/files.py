"""Write a file whole or not at all."""

import os
from collections.abc import Iterable
from pathlib import Path

from regrow.errors import InputError


def write(path: Path, blobs: Iterable[bytes]) -> None:
    """Write beside the file and rename, so that `path` is never half a file.

    Raises InputError if it cannot be written, or is there and no file: a rename would replace a device.
    """
    if not path.name or (path.exists() and not path.is_file()):
        raise InputError(f"cannot write {str(path)!r}: it is no file, give the name of one")
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(blobs)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
