"""The resident form of a pack: where it lies, whether it is whole, and heap for it. `install` writes it."""

import gc
import os
from hashlib import sha256

from micropython import const

from .errors import CapacityError, PackError

_PIECE = const(512)
_HEAD = const(76)
_FOLDER = const(0x4000)
_OBJECTS = const(2048)  # bytes of heap that a loaded network needs besides its memory, about


def open_resident(path):
    """The resident form of the pack at `path`, open at its description, and the bytes of memory its network
    needs; None if it is not there, not whole, or another pack's."""
    piece = bytearray(_PIECE)
    pack = _pack_id(path, piece)
    try:
        file = open(path_of(path), "rb")  # noqa: SIM115 - it stays open
    except OSError:
        return None
    if file.readinto(piece, _HEAD) == _HEAD and piece[:36] == b"RGR1" + pack:
        digest, sizes = bytes(piece[36:68]), bytes(piece[68:76])
        found = _hash(file, piece, 1 << 30, sha256())
        found.update(sizes)
        if found.digest() == digest:
            file.seek(int.from_bytes(sizes[:4], "little"))
            return file, int.from_bytes(sizes[4:], "little")
    file.close()
    return None


def claim(path):
    """Raise CapacityError unless the heap has free what the pack at `path` says its network needs."""
    head = bytearray(74)
    with open(_head_of(path), "rb") as file:
        file.seek(104)
        got = file.readinto(head)
    place = head[0] + 6  # behind the name, the version and the targets
    if place + 4 <= got:
        _claim(int.from_bytes(head[place : place + 4], "little"))


def allocate(size):
    """The memory of a network, before modules are imported that could stand in the way of so long a piece."""
    _claim(size)
    try:
        return bytearray(size)
    except MemoryError:
        raise _too_small(size) from None


def _claim(size):
    gc.collect()
    if size + _OBJECTS > gc.mem_free():
        raise _too_small(size)


def _too_small(size):
    free = gc.mem_free()
    heap = free + gc.mem_alloc()
    return CapacityError(f"the network needs {size + _OBJECTS} bytes of heap and {free} of {heap} are free")


def path_of(path):
    """Where the resident form of a `.rgp` file or of a slot's folder lies."""
    return path + ("/resident" if _is_folder(path) else ".resident")


def _pack_id(path, piece):
    """SHA-256 of the head of a pack, as it stands there."""
    with open(_head_of(path), "rb") as file:
        file.seek(100)
        file.readinto(piece, 4)
        file.seek(0)
        return _hash(file, piece, 104 + int.from_bytes(piece[:4], "little"), sha256()).digest()


def _head_of(path):
    return path + "/head" if _is_folder(path) else path


def _is_folder(path):
    try:
        return os.stat(path)[0] & _FOLDER
    except OSError as error:
        raise PackError(f"cannot read {path}: {error}") from None


def _hash(file, piece, count, digest):
    """Hash the next `count` bytes, or all there are."""
    while count:
        got = file.readinto(piece, min(count, _PIECE))
        if not got:
            break
        digest.update(piece if got == _PIECE else piece[:got])
        count -= got
    return digest
