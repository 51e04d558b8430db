"""What a device keeps: blobs by hash, two slots, and which of them runs.

    parts/HASH      a blob whose bytes have that SHA-256; parts/HASH.tmp is one on its way
    A/head B/head   the head of the version in that slot; its parts lie in parts/
    active          which slot runs, and the highest version that ever ran
    update          the last desired version and how far it came

After a power cut every file is old or new, never half: see `records`.
"""

import os
from binascii import hexlify
from hashlib import sha256

from micropython import const

from . import records
from .errors import CapacityError, InputError, RegrowError
from .reader import Reader
from .topics import CHUNK

SLOTS = ("A", "B")

_PIECE = const(512)
_FOLDER = const(0x4000)
_LARGE = const(1 << 30)  # more than a board's flash; within its small integers


class Store:
    """The folder `root`; with `limit`, all its files together stay within that many bytes."""

    def __init__(self, root, limit=None):
        self.root = root.rstrip("/")
        self._limit = limit
        self._parts = self.root + "/parts"
        for folder in (self.root, self._parts, self.slot("A"), self.slot("B")):
            if _size(folder) is None:
                try:
                    os.mkdir(folder)
                except OSError as error:
                    raise InputError(f"cannot make the folder {folder}: {error}") from None

    def path(self, blob):
        """Where the blob of that hash lies once it is whole."""
        return f"{self._parts}/{blob}"

    def has(self, blob):
        return _size(self.path(blob)) is not None

    def resume(self, blob):
        """Bytes of an unfinished blob that are kept: its whole chunks."""
        return (_size(self._unfinished(blob)) or 0) // CHUNK * CHUNK

    def append(self, blob, position, data):
        """Write a chunk of an unfinished blob, over what a power cut may have left behind `position`."""
        path = self._unfinished(blob)
        with open(path, "wb" if position == 0 else "r+b") as file:
            file.seek(position)
            file.write(data)
            file.flush()

    def finish(self, blob):
        """Make an unfinished blob whole if its bytes have its hash; whether they have."""
        path = self._unfinished(blob)
        if _hash(path) != blob:
            return False
        os.rename(path, self.path(blob))
        return True

    def drop(self, blob):
        """Delete an unfinished blob."""
        _remove(self._unfinished(blob))

    def check(self, blob):
        """Whether the blob is here with the right bytes; a damaged one is deleted."""
        if not self.has(blob):
            return False
        if _hash(self.path(blob)) == blob:
            return True
        os.remove(self.path(blob))
        return False

    def room(self):
        """Bytes that may still be written."""
        status = os.statvfs(self.root)
        free = min(status[4], _LARGE // status[1]) * status[1]
        if self._limit is None:
            return free
        used = 0
        for folder in ("", "/parts", "/A", "/B"):
            for name in os.listdir(self.root + folder):
                status = os.stat(f"{self.root}{folder}/{name}")
                if not status[0] & _FOLDER:
                    used += status[6]
        return max(0, min(free, self._limit - used))

    def make_room(self, needed, keep):
        """See that `needed` bytes fit, if need be by deleting what is not kept, then the resting version.

        `keep`: the hashes of the update under way, in hex, in a row. Raises CapacityError with the bytes
        needed and there.
        """
        room = self.room()
        if room < needed:
            self.collect(keep)
            room = self.room()
        if room < needed:
            self.clear(self.free_slot)
            self.collect(keep)
            room = self.room()
        if room < needed:
            raise CapacityError(f"the update needs {needed} bytes of storage and {room} are free")

    def collect(self, keep=b""):
        """Delete every blob, finished or not, that no slot refers to and `keep` does not hold."""
        kept = bytearray(keep)
        for letter in SLOTS:
            manifest = self.manifest(letter)
            if manifest:
                for part in manifest.parts:
                    kept.extend(hexlify(part.sha256))
        for name in os.listdir(self._parts):
            if name[:64].encode() not in kept:
                os.remove(self.path(name))

    @property
    def active(self):
        """(slot, highest version that ever ran); (None, 0) before the first one."""
        record = records.read(self.root + "/active")
        if record.get("slot") in SLOTS and isinstance(record.get("version"), int):
            return record["slot"], record["version"]
        return None, 0

    @property
    def free_slot(self):
        """The slot that does not run."""
        return "B" if self.active[0] == "A" else "A"

    def slot(self, letter):
        """The slot's folder, as `regrow.load` takes it."""
        return f"{self.root}/{letter}"

    def write_slot(self, letter, head):
        """Put a version into a slot; its parts must be here."""
        _remove(self.slot(letter) + "/resident")  # of what stood there
        records.write(self.slot(letter) + "/head", head)

    def clear(self, letter):
        """Empty a slot."""
        _remove(self.slot(letter) + "/head")
        _remove(self.slot(letter) + "/head.new")
        _remove(self.slot(letter) + "/resident")

    def activate(self, letter, version):
        """From now on, and over a power cut, the slot of that letter runs."""
        record = {"slot": letter, "version": max(version, self.active[1])}
        records.write(self.root + "/active", record)

    def head(self, path):
        """The head in the file at `path`; PackError if it is none."""
        from .pack import Head  # heap only where packs are read

        with open(path, "rb") as file:
            return Head.parse(Reader(file, 0, _size(path)))

    def manifest(self, letter):
        """What stands in a slot; None if it is empty or its head is damaged."""
        try:
            return self.head(self.slot(letter) + "/head").verify()
        except (RegrowError, OSError):
            return None

    @property
    def update(self):
        """The record of the last update; empty if there is none or it cannot be read."""
        return records.read(self.root + "/update")

    def write_update(self, record):
        """Keep the record over a restart; False where the storage is full, and the update goes on without."""
        try:
            records.write(self.root + "/update", record)
        except OSError:
            return False
        return True

    def _unfinished(self, blob):
        return f"{self._parts}/{blob}.tmp"


def _size(path):
    try:
        return os.stat(path)[6]
    except OSError:
        return None


def _remove(path):
    try:  # noqa: SIM105 (boards have no contextlib)
        os.remove(path)
    except OSError:
        pass  # it was not there


def _hash(path):
    digest = sha256()
    piece = memoryview(bytearray(_PIECE))
    with open(path, "rb") as file:
        while True:
            count = file.readinto(piece)
            if not count:
                return hexlify(digest.digest()).decode()
            digest.update(piece[:count])
