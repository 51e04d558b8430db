"""Write packs: parts and a key become one signed `.rgp` file."""

import struct
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from regrow.errors import InputError
from regrow.pack import MANIFEST_LIMIT, Head, Manifest, signed_message

from regrow_host import files
from regrow_host.keys import public_key


class NewPart(NamedTuple):
    """A part to be packed; role and use are regrow.pack's ROLE_ and USE_, number that of the tensor."""

    role: int
    use: int
    number: int
    data: bytes


def build_pack(
    path: str | Path,
    name: str,
    version: int,
    parts: Sequence[NewPart],
    *,
    arena: int,
    key: Ed25519PrivateKey,
) -> Head:
    """Write the pack at once or not at all; its targets are the uses of its parts, `arena` is in bytes.

    Raises PackError if the manifest breaks the format, InputError if the file cannot be written.
    """
    manifest = _manifest(name, version, parts, arena)
    head = Head(public_key(key), key.sign(signed_message(manifest)), manifest)
    files.write(Path(path), [head.data, *(part.data for part in parts)])
    return head


def _manifest(name: str, version: int, parts: Sequence[NewPart], arena: int) -> bytes:
    targets = 0
    for part in parts:
        targets |= part.use
    label = name.encode()
    if len(label) > 255 or not 0 <= version < 1 << 31:
        raise InputError(f"name {name[:64]!r} or version {version} does not fit a pack")
    manifest = bytes([len(label)]) + label + struct.pack("<IBIH", version, targets, arena, len(parts))
    for part in parts:
        manifest += struct.pack("<BBHI", part.role, part.use, part.number, len(part.data))
        manifest += sha256(part.data).digest()
    if len(manifest) > MANIFEST_LIMIT:
        raise InputError(f"{len(parts)} parts are more than a pack can hold")
    Manifest.parse(manifest)
    return manifest
