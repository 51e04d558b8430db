"""Bounds-checked reading of one part of a file."""

import struct

from .errors import PackError

_word = bytearray(4)


class Reader:
    """The `size` bytes of a seekable binary file from `offset` on, read in order and never beyond.

    Several readers may share one file: every read sets the file's place. A read past the end raises PackError
    before it allocates anything.
    """

    def __init__(self, file, offset, size):
        self._file = file
        self._offset = offset
        self._size = size
        self.position = 0

    @property
    def left(self):
        return self._size - self.position

    def seek(self, position):
        """Go to a position counted from the start of the part."""
        if not 0 <= position <= self._size:
            raise PackError(f"position {position} is outside of the {self._size} bytes there are")
        self.position = position

    def twin(self):
        """Another reader of the same part, at the same place."""
        twin = Reader(self._file, self._offset, self._size)
        twin.position = self.position
        return twin

    def skip(self, count):
        self._claim(count)
        self.position += count

    def read(self, count):
        self._claim(count)
        data = bytearray(count)
        self.readinto(data)
        return bytes(data)

    def readinto(self, buffer, count=None):
        """Fill `buffer`, or its first `count` bytes."""
        if count is None:
            count = len(buffer)
        self._claim(count)
        self._file.seek(self._offset + self.position)
        if count and self._file.readinto(buffer, count) != count:
            raise PackError("the file is cut short")
        self.position += count

    def _claim(self, count):
        if not 0 <= count <= self._size - self.position:
            raise PackError(f"{count} bytes are wanted where {self._size - self.position} are left")

    def u8(self):
        self.readinto(_word, 1)
        return _word[0]

    def u16(self):
        self.readinto(_word, 2)
        return _word[0] | _word[1] << 8

    def u32(self):
        self.readinto(_word, 4)
        return _word[0] | _word[1] << 8 | _word[2] << 16 | _word[3] << 24

    def i8(self):
        return (self.u8() ^ 0x80) - 0x80

    def i16(self):
        return (self.u16() ^ 0x8000) - 0x8000

    def i32(self):
        return (self.u32() ^ 0x80000000) - 0x80000000

    def f32(self):
        self.readinto(_word, 4)
        return struct.unpack("<f", _word)[0]

    def varint(self):
        """An unsigned LEB128 integer below 2**31 in at most 5 bytes."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 31:
                    break
                return value
        raise PackError("a variable-length integer is 2^31 or more, or longer than 5 bytes")

    def signed(self):
        """A signed integer, of which the varint is 2n, or -2n - 1 below 0."""
        value = self.varint()
        return value >> 1 ^ -(value & 1)
