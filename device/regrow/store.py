"""What a device keeps: blobs by hash, two slots, and which of them runs.

    parts/HASH      a blob whose bytes have that SHA-256; parts/HASH.tmp is one on its way
    A/head B/head   the head of the version in that slot; its parts lie in parts/
    active          which slot runs, and the highest version that ever ran
    update          the last desired version and how far it came
    trusted/*.pub   public keys whose packs are accepted

A file is written beside its place, synced and renamed: after a power cut it is old or new, never half.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from regrow.errors import CapacityError, DeliveryError, InputError, PackError
from regrow.pack import Head, Manifest, Pack, open_pack
from regrow.reader import Reader
from regrow.topics import CHUNK

SLOTS = ("A", "B")


@dataclass(frozen=True)
class Active:
    """The slot that runs (None before the first version) and the highest version that ever ran."""

    slot: str | None = None
    version: int = 0


class Store:
    """The folder `root`; with `limit`, all its files together stay within that many bytes."""

    def __init__(self, root: str | Path, limit: int | None = None) -> None:
        self.root = Path(root)
        self._limit = limit
        self._parts = self.root / "parts"
        try:
            self._parts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the store {self.root}: {error.strerror}") from None

    def lock(self) -> None:
        """Keep other processes away until this one ends; DeliveryError if one is there already."""
        self._lock = (self.root / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise DeliveryError(f"the store {self.root} is in use by another regrow-device") from None

    def unlock(self) -> None:
        self._lock.close()

    def path(self, blob: str) -> Path:
        """Where the blob of that hash lies once it is whole."""
        return self._parts / blob

    def has(self, blob: str) -> bool:
        return self.path(blob).exists()

    def resume(self, blob: str) -> int:
        """Bytes of an unfinished blob that are kept: its whole chunks. Cuts off what follows them."""
        path = self._unfinished(blob)
        if not path.exists():
            return 0
        size = path.stat().st_size // CHUNK * CHUNK
        os.truncate(path, size)
        return size

    def append(self, blob: str, data: bytes) -> None:
        """Add the next chunk to an unfinished blob."""
        with self._unfinished(blob).open("ab") as file:
            file.write(data)

    def finish(self, blob: str) -> bool:
        """Make an unfinished blob whole if its bytes have its hash; whether they have."""
        path = self._unfinished(blob)
        path.touch()
        if _hash(path) != blob:
            return False
        _sync(path)
        path.rename(self.path(blob))
        _sync(self._parts)
        return True

    def drop(self, blob: str) -> None:
        """Delete an unfinished blob."""
        self._unfinished(blob).unlink(missing_ok=True)

    def check(self, blob: str) -> bool:
        """Whether the blob is here with the right bytes; a damaged one is deleted."""
        if not self.has(blob):
            return False
        if _hash(self.path(blob)) == blob:
            return True
        self.path(blob).unlink()
        return False

    def open_blob(self, blob: str, trust: Iterable[bytes]) -> Pack:
        """The pack whose head is that blob; its parts may still be missing. SignatureError or PackError."""
        with self.path(blob).open("rb") as file:
            reader = Reader(file, 0, self.path(blob).stat().st_size)
            head = Head.parse(reader)
            if reader.left:
                raise PackError(f"{reader.left} bytes follow the head of the pack")
        return Pack(head, head.verify(trust), lambda digest: (self.path(digest.hex()), 0))

    def room(self) -> int:
        """Bytes that may still be written."""
        free = shutil.disk_usage(self.root).free
        if self._limit is None:
            return free
        used = sum(file.stat().st_size for file in self.root.rglob("*") if file.is_file())
        return max(0, min(free, self._limit - used))

    def make_room(self, needed: int, keep: Iterable[str]) -> None:
        """See that `needed` bytes fit, if need be by giving up the version that does not run.

        `keep`: hashes of the update under way. Raises CapacityError with the bytes needed and there.
        """
        keep = set(keep)
        if self.room() < needed:
            self.collect(keep)
        if self.room() < needed:
            self.clear(self.free_slot)
            self.collect(keep)
        room = self.room()
        if room < needed:
            raise CapacityError(f"the update needs {needed} bytes of storage and {room} are free")

    def collect(self, keep: Iterable[str] = ()) -> None:
        """Delete every blob, finished or not, that no slot refers to and `keep` does not name."""
        kept = set(keep).union(*(self._blobs(slot) for slot in SLOTS))
        for path in self._parts.iterdir():
            if path.name.removesuffix(".tmp") not in kept:
                path.unlink()

    @property
    def active(self) -> Active:
        """What `activate` wrote; an unreadable record counts as none."""
        record = _read_json(self.root / "active")
        slot, version = record.get("slot"), record.get("version")
        return Active(slot, version) if slot in SLOTS and type(version) is int else Active()

    @property
    def free_slot(self) -> str:
        """The slot that does not run."""
        return "B" if self.active.slot == "A" else "A"

    def slot(self, letter: str) -> Path:
        """The slot's folder, as `regrow.load` takes it."""
        return self.root / letter

    def write_slot(self, letter: str, head: bytes) -> Path:
        """Put a version into a slot; its parts must be here. Gives the slot's folder."""
        folder = self.slot(letter)
        folder.mkdir(exist_ok=True)
        _sync(self.root)
        _replace(folder / "head", head)
        return folder

    def clear(self, letter: str) -> None:
        """Empty a slot."""
        (self.slot(letter) / "head").unlink(missing_ok=True)

    def activate(self, letter: str, version: int) -> None:
        """From now on, and over a power cut, the slot of that letter runs."""
        highest = max(version, self.active.version)
        _replace(self.root / "active", json.dumps({"slot": letter, "version": highest}).encode())

    def manifest(self, letter: str) -> Manifest | None:
        """What stands in a slot; None if it is empty or its head is damaged."""
        try:
            with open_pack(self.slot(letter)) as pack:
                return pack.manifest
        except PackError:
            return None

    @property
    def update(self) -> dict[str, Any]:
        """The record of the last update; empty if there is none or it cannot be read."""
        return _read_json(self.root / "update")

    def write_update(self, record: dict[str, Any]) -> None:
        """Keep the record over a restart, unless the storage is full."""
        with suppress(OSError):  # the update goes on or fails without it; after a restart it comes again
            _replace(self.root / "update", json.dumps(record).encode())

    def trusted(self) -> set[bytes]:
        """The public keys in `trusted/`."""
        return {read_public_key(path) for path in sorted((self.root / "trusted").glob("*.pub"))}

    def _unfinished(self, blob: str) -> Path:
        return self._parts / f"{blob}.tmp"

    def _blobs(self, letter: str) -> set[str]:
        manifest = self.manifest(letter)
        return {part.sha256.hex() for part in manifest.parts} if manifest else set()


def read_public_key(source: str | Path) -> bytes:
    """A public key (32 bytes) from its 64 hex digits or a file that holds them; else InputError."""
    try:
        text = str(source) if _is_key(str(source)) else Path(source).read_text("ascii").strip()
    except OSError as error:
        raise InputError(f"cannot read the public key {source}: {error.strerror}") from None
    except ValueError:
        text = ""
    if not _is_key(text):
        raise InputError(f"{source} is no public key of regrow: that is 64 hex digits")
    return bytes.fromhex(text)


def _is_key(text: str) -> bool:
    return len(text) == 64 and all(digit in "0123456789abcdefABCDEF" for digit in text)


def _hash(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while piece := file.read(65536):
            digest.update(piece)
    return digest.hexdigest()


def _replace(path: Path, data: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(data)
    _sync(fresh)
    fresh.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
