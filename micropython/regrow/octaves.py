"""Scales by channel in 1024ths of an octave (docs/pack-format.md, "Weights part", scale form 3)."""

from array import array

from .errors import PackError
from .rice import read

# fmt: off
_COARSE = (
    8388608, 8572295, 8760003, 8951823, 9147842, 9348154, 9552851, 9762032,
    9975792, 10194234, 10417458, 10645571, 10878679, 11116891, 11360319, 11609078,
    11863283, 12123055, 12388516, 12659789, 12937002, 13220286, 13509772, 13805598,
    14107901, 14416824, 14732511, 15055111, 15384775, 15721658, 16065917, 16417715,
)
_FINE = (
    0, 5680, 11364, 17052, 22744, 28439, 34139, 39842, 45549, 51260, 56975, 62694,
    68417, 74143, 79874, 85608, 91346, 97088, 102834, 108584, 114337, 120095, 125857, 131622,
    137391, 143164, 148942, 154723, 160508, 166296, 172089, 177886,
)
# fmt: on
"""round(2^(23 + j/32)) and round(2^(23 + j/1024)) - 2^23."""


class Octaves:
    """`octaves[c]`: the float32 bits of the scale of channel c."""

    common = None

    def __init__(self, reader, channels):
        self._shift = reader.u8()
        self._base = reader.signed()
        wide = 0
        for step in read(reader.twin(), channels):
            if self._shift > 10 or not -129024 <= self._base + step << self._shift <= 131071:
                raise PackError("a weights part has a scale out of range")
            wide |= step + 0x8000 >> 16
        self._steps = array("i" if wide else "h", bytes((4 if wide else 2) * channels))
        for c, step in enumerate(read(reader, channels)):
            self._steps[c] = step

    def __len__(self):
        return len(self._steps)

    def __getitem__(self, channel):
        if not 0 <= channel < len(self._steps):
            raise IndexError(channel)
        exponent = self._base + self._steps[channel] << self._shift
        coarse = _COARSE[exponent >> 5 & 31]
        return ((exponent >> 10) + 126 << 23) + coarse + (coarse * _FINE[exponent & 31] >> 23)
