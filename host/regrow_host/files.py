"""Files that are written whole or not at all, and folders that go away."""

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from regrow.errors import InputError

KEEPER = "import shutil, sys; sys.stdin.read(); shutil.rmtree(sys.argv[1], ignore_errors=True)"


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


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is gone afterwards, even if this process is killed: another one waits for its end."""
    folder = Path(tempfile.gettempdir(), f"regrow-{secrets.token_hex(8)}")
    command = [sys.executable, "-I", "-S", "-c", KEEPER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True):
        folder.mkdir(mode=0o700)
        yield folder
