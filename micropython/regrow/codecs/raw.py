"""Codec 0: the values as they are."""

from ..errors import PackError


class Decoder:
    def __init__(self, reader, count, item):
        if reader.left != count * item:
            raise PackError(f"a raw weights part holds {reader.left} bytes for {count} weights")
        self._reader = reader
        self._body = reader.position
        self._item = item

    def rewind(self):
        self._reader.seek(self._body)

    def grow(self, out, count):
        self._reader.readinto(out, count * self._item)
