"""Packs: the signed head, the manifest in it, and the parts by role (docs/pack-format.md)."""

import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from regrow import signing
from regrow.errors import PackError, SignatureError
from regrow.reader import Reader

MAGIC = b"RGP1"
MANIFEST_LIMIT = 65536

ROLE_GRAPH = 1
ROLE_SKELETON = 2
ROLE_WEIGHTS = 3
ROLE_PROBE = 4
ROLES = {ROLE_GRAPH: "graph", ROLE_SKELETON: "skeleton", ROLE_WEIGHTS: "weights", ROLE_PROBE: "probe"}

USE_LITERT = 1
USE_EXECUTOR = 2
USE_BOTH = 3

_NAME = re.compile(rb"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_PIECE = 4096


@dataclass(frozen=True)
class Part:
    """One blob of a pack; `number` is that of the weight tensor, else 0."""

    role: int
    use: int
    number: int
    size: int
    sha256: bytes

    def __str__(self) -> str:
        name = ROLES[self.role]
        return f"{name} {self.number}" if self.role == ROLE_WEIGHTS else name


@dataclass(frozen=True)
class Manifest:
    """What a pack holds; `arena` in bytes, `targets` a sum of USE_LITERT and USE_EXECUTOR."""

    name: str
    version: int
    targets: int
    arena: int
    parts: tuple[Part, ...]

    @classmethod
    def parse(cls, data: bytes) -> "Manifest":
        """Raises PackError unless `data` is one valid manifest and nothing else."""
        reader = Reader(BytesIO(data), 0, len(data))
        name = reader.read(reader.u8())
        if not _NAME.fullmatch(name):
            raise PackError("the model's name must be 1 to 64 of A-Z a-z 0-9 . _ - and not start with a dot")
        version, targets, arena = reader.u32(), reader.u8(), reader.u32()
        if not 1 <= version < 1 << 31:
            raise PackError(f"version {version} is not in 1 to 2^31 - 1")
        if not 1 <= targets <= USE_BOTH:
            raise PackError(f"targets {targets} are unknown")
        if arena and not targets & USE_EXECUTOR:
            raise PackError("a pack without the executor's target needs no arena")
        parts = tuple(_parse_part(reader, targets) for _ in range(reader.u16()))
        if reader.left:
            raise PackError(f"{reader.left} bytes follow the manifest's last part")
        for use in (USE_LITERT, USE_EXECUTOR):
            if targets & use:
                _check_parts(use, [part for part in parts if part.use & use])
        return cls(name.decode(), version, targets, arena, parts)


def _parse_part(reader: Reader, targets: int) -> Part:
    part = Part(reader.u8(), reader.u8(), reader.u16(), reader.u32(), reader.read(32))
    if part.role not in ROLES:
        raise PackError(f"role {part.role} is unknown")
    if not part.use or part.use & ~targets:
        raise PackError(f"use {part.use} of the {part} is not among the pack's targets")
    if part.number and part.role != ROLE_WEIGHTS:
        raise PackError(f"the {part} has a number")
    if (part.role == ROLE_GRAPH and part.use != USE_EXECUTOR) or (
        part.role == ROLE_SKELETON and part.use != USE_LITERT
    ):
        raise PackError(f"use {part.use} does not fit the {part}")
    return part


def _check_parts(use: int, parts: list[Part]) -> None:
    keys = [(part.role, part.number) for part in parts]
    if len(set(keys)) != len(keys):
        raise PackError("two parts have the same role, use and number")
    role = ROLE_GRAPH if use == USE_EXECUTOR else ROLE_SKELETON
    if (role, 0) not in keys:
        raise PackError(f"the {ROLES[role]} is missing")


@dataclass(frozen=True)
class Head:
    """The start of a pack: who signed it, and the manifest's bytes, to be used by `verify` only."""

    signer: bytes
    signature: bytes
    manifest: bytes

    @classmethod
    def parse(cls, reader: Reader) -> "Head":
        """Raises PackError unless `reader` stands at a head; leaves it behind the manifest."""
        if reader.left < len(MAGIC) or reader.read(len(MAGIC)) != MAGIC:
            raise PackError("a pack begins with RGP1, this does not")
        signer, signature, size = reader.read(32), reader.read(64), reader.u32()
        if size > MANIFEST_LIMIT:
            raise PackError(f"a manifest of {size} bytes is over the limit of {MANIFEST_LIMIT}")
        return cls(signer, signature, reader.read(size))

    @cached_property
    def data(self) -> bytes:
        """The head as it stands in the file."""
        return MAGIC + self.signer + self.signature + len(self.manifest).to_bytes(4, "little") + self.manifest

    @cached_property
    def id(self) -> bytes:
        """The pack id, 32 bytes."""
        return sha256(self.data).digest()

    def verify(self, trust: Iterable[bytes] | None = None) -> Manifest:
        """The manifest, if the signature is good and, unless `trust` is None, its signer one of `trust`.

        Raises SignatureError, or PackError for a bad manifest.
        """
        if trust is not None and self.signer not in set(trust):
            raise SignatureError(
                f"the pack is signed by key {self.signer[:8].hex()}, which is not trusted here"
            )
        signing.verify(self.signer, self.signature, signed_message(self.manifest))
        return Manifest.parse(self.manifest)


def signed_message(manifest: bytes) -> bytes:
    """What the signature of a pack signs."""
    return b"regrow pack v1\n" + sha256(manifest).digest()


class Pack:
    """An opened pack: a verified head, and its parts wherever they lie. A context manager.

    `locate` gives for a part's SHA-256 the file that holds it and the offset there.
    """

    def __init__(
        self, head: Head, manifest: Manifest, locate: Callable[[bytes], tuple[str | Path, int]]
    ) -> None:
        self.head = head
        self.manifest = manifest
        self._locate = locate
        self._files: dict[str, BinaryIO] = {}
        self._verified: set[Part] = set()
        self._stack = ExitStack()

    def __enter__(self) -> "Pack":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._files.clear()
        self._stack.close()

    def part(self, role: int, use: int, number: int = 0) -> Part:
        """The part of that role and number for that use; PackError if there is none."""
        for part in self.manifest.parts:
            if part.role == role and part.use & use and part.number == number:
                return part
        which = f"{ROLES[role]} {number}" if role == ROLE_WEIGHTS else ROLES[role]
        raise PackError(f"the pack has no {which} for {'LiteRT' if use == USE_LITERT else 'the executor'}")

    def weights_parts(self, use: int) -> list[Part]:
        """The weights parts for that use, by number."""
        parts = [part for part in self.manifest.parts if part.role == ROLE_WEIGHTS and part.use & use]
        return sorted(parts, key=lambda part: part.number)

    def reader(self, part: Part) -> Reader:
        """A reader of the part's bytes, which are checked against its SHA-256 the first time."""
        if part not in self._verified:
            self.verify(part)
        return self._reader(part)

    def verify(self, part: Part) -> None:
        """Raise PackError unless the part's bytes have its SHA-256."""
        reader = self._reader(part)
        digest = sha256()
        while reader.left:
            digest.update(reader.read(min(_PIECE, reader.left)))
        if digest.digest() != part.sha256:
            raise PackError(f"the {part} is damaged: its bytes do not have the SHA-256 in the manifest")
        self._verified.add(part)

    def _reader(self, part: Part) -> Reader:
        path, offset = self._locate(part.sha256)
        file = self._files.get(str(path))
        if file is None:
            file = self._files[str(path)] = self._stack.enter_context(_open(Path(path), f"the {part}"))
        return Reader(file, offset, part.size)


def open_pack(path: str | Path, trust: Iterable[bytes] | None = None) -> Pack:
    """Open a `.rgp` file, or the folder of a slot: it holds `head`, and beside it lies `parts/HASH`.

    `trust`: the public keys (32 bytes each) whose packs are accepted; None accepts any signer.
    Raises SignatureError or PackError.
    """
    path = Path(path)
    if path.is_dir():
        head, left = _read_head(path / "head")
        if left:
            raise PackError(f"{left} bytes follow the head in {path}")
        return Pack(head, head.verify(trust), lambda sha: (path.parent / "parts" / sha.hex(), 0))
    head, left = _read_head(path)
    manifest = head.verify(trust)
    wanted = sum(part.size for part in manifest.parts)
    if left != wanted:
        raise PackError(f"{path} is damaged: it has {left} bytes of parts, its manifest tells of {wanted}")
    offsets: dict[bytes, int] = {}
    offset = len(head.data)
    for part in manifest.parts:
        offsets[part.sha256] = offset
        offset += part.size
    return Pack(head, manifest, lambda sha: (path, offsets[sha]))


def _read_head(path: Path) -> tuple[Head, int]:
    """The head at the start of a file, and the number of bytes behind it."""
    with _open(path, str(path)) as file:
        reader = Reader(file, 0, path.stat().st_size)
        try:
            return Head.parse(reader), reader.left
        except PackError as error:
            raise PackError(f"{path} is no whole pack: {error}") from None


def _open(path: Path, what: str) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise PackError(f"cannot read {what}: {error.strerror}") from None
