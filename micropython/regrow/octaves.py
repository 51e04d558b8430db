"""Scales by channel in 16ths of an octave (docs/pack-format.md, "Weights part", scale form 3)."""

from array import array

from .errors import PackError
from .rice import read

_MANTISSAS = (
    (0, 371395, 759234, 1164243),
    (1587184, 2028850, 2490071, 2971711),
    (3474675, 3999908, 4548394, 5121164),
    (5719293, 6343903, 6996167, 7677309),
)
"""Of 2^(j/16) as float32."""


class Octaves:
    """`octaves[c]`: the float32 bits of the scale of channel c."""

    common = None

    def __init__(self, reader, channels):
        base = reader.i16()
        offsets = read(reader, channels)
        for c in range(channels):
            if not -2016 <= base + offsets[c] <= 2047:
                raise PackError("a weights part has a scale out of range")
        self._exponents = array("h", [base + offset for offset in offsets])

    def __len__(self):
        return len(self._exponents)

    def __getitem__(self, channel):
        if not 0 <= channel < len(self._exponents):
            raise IndexError(channel)
        exponent = self._exponents[channel]
        return ((exponent >> 4) + 127 << 23) + _MANTISSAS[exponent >> 2 & 3][exponent & 3]
