"""`regrow trust`: accept packs that are signed by another's key."""

import argparse
from pathlib import Path

from regrow.errors import InputError
from regrow.store import read_public_key

from regrow_host import console, keys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", type=Path, metavar="KEY.pub")


def run(args: argparse.Namespace) -> int:
    key = read_public_key(args.key)
    path = keys.home() / "trusted" / f"{key.hex()[:16]}.pub"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(key.hex() + "\n")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    console.show(f"packs signed by {key.hex()} are trusted now")
    return 0
