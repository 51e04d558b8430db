"""`regrow keygen`: make a signing key."""

import argparse
from pathlib import Path

from regrow.store import read_public_key

from regrow_host import console, keys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, help="the private key's file (default: where regrow looks for yours)"
    )


def run(args: argparse.Namespace) -> int:
    private, public = keys.keygen(args.out)
    console.show(f"private key: {private} (keep it to yourself)")
    console.show(f"public key:  {public} ({read_public_key(public).hex()})")
    return 0
