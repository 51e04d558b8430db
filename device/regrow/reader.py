"""Bounds-checked reading of one stretch of a file, all numbers little-endian."""

import struct
from typing import BinaryIO

from regrow.errors import PackError


class Reader:
    """Reads `size` bytes of `file` from `offset` on; several readers may share one file.

    Every read raises PackError instead of passing the end, before it allocates anything.
    """

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._file = file
        self._offset = offset
        self._size = size
        self.position = 0

    @property
    def left(self) -> int:
        """Bytes between the position and the end."""
        return self._size - self.position

    def seek(self, position: int) -> None:
        """Go to a position counted from the start of the stretch."""
        if not 0 <= position <= self._size:
            raise PackError(f"position {position} is outside of the {self._size} bytes there are")
        self.position = position

    def skip(self, n: int) -> None:
        self._claim(n)
        self.position += n

    def read(self, n: int) -> bytes:
        self._claim(n)
        self._file.seek(self._offset + self.position)
        data = self._file.read(n)
        if len(data) != n:
            raise PackError("the file is cut short")
        self.position += n
        return data

    def readinto(self, buffer: memoryview) -> None:
        """Fill the buffer."""
        self._claim(buffer.nbytes)
        self._file.seek(self._offset + self.position)
        if self._file.readinto(buffer) != buffer.nbytes:  # type: ignore[attr-defined]
            raise PackError("the file is cut short")
        self.position += buffer.nbytes

    def u8(self) -> int:
        return self.read(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.read(2), "little")

    def u32(self) -> int:
        return int.from_bytes(self.read(4), "little")

    def i8(self) -> int:
        return int.from_bytes(self.read(1), "little", signed=True)

    def i16(self) -> int:
        return int.from_bytes(self.read(2), "little", signed=True)

    def i32(self) -> int:
        return int.from_bytes(self.read(4), "little", signed=True)

    def f32(self) -> float:
        value: float = struct.unpack("<f", self.read(4))[0]
        return value

    def varint(self) -> int:
        """An unsigned LEB128 integer below 2^31 in at most 5 bytes."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >= 1 << 31:
                    break
                return value
        raise PackError("a variable-length integer is 2^31 or more, or longer than 5 bytes")

    def signed(self) -> int:
        """A signed integer, of which the varint is 2n, or -2n - 1 below 0."""
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def _claim(self, n: int) -> None:
        if not 0 <= n <= self.left:
            raise PackError(f"{n} bytes are wanted where {self.left} are left")
