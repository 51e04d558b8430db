"""Packs: the signed head, the manifest in it, and the parts by role (docs/pack-format.md)."""

import os
from binascii import hexlify
from hashlib import sha256
from io import BytesIO

from micropython import const

from .errors import CapacityError, PackError, SignatureError
from .reader import Reader

_MANIFEST_LIMIT = const(65536)

ROLE_GRAPH = const(1)
_ROLE_SKELETON = const(2)
ROLE_WEIGHTS = const(3)
_ROLE_PROBE = const(4)

USE_LITERT = const(1)
USE_EXECUTOR = const(2)

_RECORD = const(40)
_PIECE = const(512)
_FOLDER = const(0x4000)
_NAME = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"


class Part:
    """One blob of a pack; `number` is that of the weight tensor, else 0."""

    def __init__(self, record, offset):
        self.role = record[0]
        self.use = record[1]
        self.number = record[2] | record[3] << 8
        self.size = record[4] | record[5] << 8 | record[6] << 16 | record[7] << 24
        self.sha256 = bytes(record[8:])
        self.offset = offset

    def __str__(self):
        name = ("graph", "skeleton", "weights", "probe")[self.role - 1]
        return name + " " + str(self.number) if self.role == ROLE_WEIGHTS else name


class Manifest:
    """What a pack holds: `.name .version .targets .arena .parts`.

    The parts are kept as the bytes of the manifest, and made one at a time.
    """

    def __init__(self, data):
        reader = Reader(BytesIO(data), 0, len(data))
        self.name = _parse_name(reader.read(reader.u8()))
        self.version = reader.u32()
        self.targets = reader.u8()
        self.arena = reader.u32()
        count = reader.u16()
        if (
            not 1 <= self.version < 1 << 31
            or not 1 <= self.targets <= 3
            or (self.arena and not self.targets & USE_EXECUTOR)
        ):
            raise PackError("the manifest has a version, targets or arena out of range")
        if reader.left != count * _RECORD:
            raise PackError(f"the manifest's list of {count} parts has {reader.left} bytes")
        self._records = memoryview(data)[reader.position :]
        self._check_parts()

    @classmethod
    def parse(cls, data):
        """Raises PackError unless `data` is one valid manifest and nothing else."""
        return cls(data)

    @property
    def parts(self):
        """The parts in order; `offset` counts from the end of the head."""
        offset = 0
        for start in range(0, len(self._records), _RECORD):
            part = Part(self._records[start : start + _RECORD], offset)
            yield part
            offset += part.size

    def _check_parts(self):
        seen = set()
        for part in self.parts:
            if (
                not ROLE_GRAPH <= part.role <= _ROLE_PROBE
                or not part.use
                or part.use & ~self.targets
                or (part.number and part.role != ROLE_WEIGHTS)
                or (part.role == ROLE_GRAPH and part.use != USE_EXECUTOR)
                or (part.role == _ROLE_SKELETON and part.use != USE_LITERT)
            ):
                raise PackError(
                    f"the manifest has a part of role {part.role}, use {part.use} and number {part.number}"
                )
            for use in (USE_LITERT, USE_EXECUTOR):
                if part.use & use:
                    key = _key(part.role, use, part.number)
                    if key in seen:
                        raise PackError("two parts have the same role, use and number")
                    seen.add(key)
        if self.targets & USE_EXECUTOR and _key(ROLE_GRAPH, USE_EXECUTOR, 0) not in seen:
            raise PackError("the graph is missing")
        if self.targets & USE_LITERT and _key(_ROLE_SKELETON, USE_LITERT, 0) not in seen:
            raise PackError("the skeleton is missing")


def _key(role, use, number):
    return number << 4 | role << 1 | use >> 1


def _parse_name(name):
    if not 1 <= len(name) <= 64 or name[0] == 46 or any(byte not in _NAME for byte in name):
        raise PackError("the model's name must be 1 to 64 of A-Z a-z 0-9 . _ - and not start with a dot")
    return name.decode()


class Head:
    """The start of a pack: `.signer .signature .manifest` (bytes, to be used by `verify` only)."""

    def __init__(self, data):
        self.data = data
        self.signer = data[4:36]
        self.signature = data[36:100]
        self.manifest = data[104:]

    @classmethod
    def parse(cls, reader):
        """Raises PackError unless `reader` stands at a head; leaves it behind the manifest."""
        start = reader.position
        if reader.left < 4 or reader.read(4) != b"RGP1":
            raise PackError("this is no pack: it does not begin with RGP1")
        reader.skip(96)
        size = reader.u32()
        if size > _MANIFEST_LIMIT:
            raise PackError(f"a manifest of {size} bytes is over the limit of {_MANIFEST_LIMIT}")
        reader.skip(size)
        reader.seek(start)
        try:
            return cls(reader.read(104 + size))
        except MemoryError:
            raise CapacityError(f"the heap has no room for a manifest of {size} bytes") from None

    @property
    def id(self):
        """The pack id, 32 bytes."""
        return sha256(self.data).digest()

    def verify(self, trust=None):
        """The manifest, if its signer is one of `trust` (public keys of 32 bytes) and the signature is good.

        With `trust` None the signature is not checked at all, as that takes a board seconds: only for a pack
        that was put here by hand, or whose head was verified when it was installed. (A Pi always checks it.)
        Raises SignatureError, or PackError for a bad manifest.
        """
        if trust is not None:
            if self.signer not in trust:
                raise SignatureError(
                    f"the pack is signed by key {_hex(self.signer[:8])}, which is not trusted here"
                )
            from . import signing  # heap only where signatures are checked

            signing.verify(self.signer, self.signature, signed_message(self.manifest))
        return Manifest.parse(self.manifest)


def signed_message(manifest):
    """What the signature of a pack signs."""
    return b"regrow pack v1\n" + sha256(manifest).digest()


class Pack:
    """An opened pack: `.head .manifest`, and its parts wherever they lie.

    `locate` gives for a part the path of the file that holds it and the offset there.
    """

    def __init__(self, head, manifest, locate):
        self.head = head
        self.manifest = manifest
        self.locate = locate
        self._files = {}
        self._verified = set()

    def close(self):
        for file in self._files.values():
            file.close()
        self._files.clear()

    def part(self, role, use, number=0):
        """The part of that role and number for that use; PackError if there is none."""
        for part in self.manifest.parts:
            if part.role == role and part.use & use and part.number == number:
                return part
        raise PackError(f"the pack has no part of role {role} and number {number} for use {use}")

    def reader(self, part):
        """A reader of the part's bytes, which are checked against its SHA-256 the first time."""
        if part.sha256 not in self._verified:
            self.verify(part)
        return self._reader(part)

    def verify(self, part):
        """Raise PackError unless the part's bytes have its SHA-256."""
        reader = self._reader(part)
        digest = sha256()
        piece = memoryview(bytearray(_PIECE))
        while reader.left:
            count = min(_PIECE, reader.left)
            reader.readinto(piece, count)
            digest.update(piece if count == _PIECE else piece[:count])
        if digest.digest() != part.sha256:
            raise PackError(f"the {part} is damaged: its bytes do not have the SHA-256 in the manifest")
        self._verified.add(part.sha256)

    def _reader(self, part):
        path, offset = self.locate(part)
        if path not in self._files:
            self._files[path] = _open(path)
        return Reader(self._files[path], offset, part.size)


def open_pack(path, trust=None):
    """Open a `.rgp` file, or the folder of a slot: it holds `head`, and beside it lies `parts/HASH`.

    `trust` as in Head.verify. Raises SignatureError, PackError or CapacityError.
    """
    path = path.rstrip("/")
    if _stat(path)[0] & _FOLDER:
        head, _ = _read_head(path + "/head")
        parts = path[: path.rfind("/") + 1] + "parts/"
        return Pack(head, head.verify(trust), lambda part: (parts + _hex(part.sha256), 0))
    head, left = _read_head(path)
    manifest = head.verify(trust)
    if left != sum(part.size for part in manifest.parts):
        raise PackError(f"{path} has {left} bytes behind its head, which are not those of its parts")
    return Pack(head, manifest, lambda part: (path, len(head.data) + part.offset))


def _read_head(path):
    with _open(path) as file:
        reader = Reader(file, 0, _stat(path)[6])
        return Head.parse(reader), reader.left


def _open(path):
    try:
        return open(path, "rb")
    except OSError as error:
        raise PackError(f"cannot read {path}: {error}") from None


def _stat(path):
    try:
        return os.stat(path)
    except OSError as error:
        raise PackError(f"cannot read {path}: {error}") from None


def _hex(data):
    return hexlify(data).decode()
