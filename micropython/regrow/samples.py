"""Labelled samples in a file that a board reads one by one (written by regrow_host.samples).

`RGS1`, u32 count, u32 bytes of a sample (little-endian); then per sample its bytes, the network's int8
inputs, and a u8 label.
"""

import struct

from .errors import InputError


class Samples:
    """The samples of the file at `path`, in order, over and over; `count` of `size` bytes each."""

    def __init__(self, path):
        try:
            self._file = open(path, "rb")  # noqa: SIM115 - open as long as the samples are
            magic, self.count, self.size = struct.unpack("<4sII", self._file.read(12))
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read the samples in {path}: {error}") from None
        if magic != b"RGS1" or not self.count or not self.size:
            raise InputError(f"{path} holds no samples: write it with regrow_host.samples")
        self._label = bytearray(1)
        self.rewind()

    def rewind(self):
        """Begin again with the first sample."""
        self._file.seek(12)
        self._left = self.count

    def read(self, buffer):
        """Fill `buffer`, of `size` bytes, with the next sample; its label."""
        if not self._left:
            self.rewind()
        self._left -= 1
        if self._file.readinto(buffer) != self.size or not self._file.readinto(self._label):
            raise InputError("the samples end too early: copy their file again")
        return self._label[0]
