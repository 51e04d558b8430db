"""Codecs: each module's Decoder grows the weights of one part, in order and piece by piece."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regrow import rice
from regrow.errors import PackError
from regrow.reader import Reader

Levels = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float32]

RAW, CENTRAL, GRID = 0, 1, 2
NAMES = ("raw", "central", "grid")

INT8, FLOAT32, FLOAT16 = 0, 1, 2

NONE, SHORT, EXACT, OCTAVES = 0, 1, 2, 3
"""Scale forms."""

MOST_CHANNELS = 65535

LEAST_EXPONENT, MOST_EXPONENT = -129024, 131071
MOST_SHIFT = 10


@dataclass(frozen=True)
class Header:
    """The start of a weights part; `scales` are float32, of length 0, 1 or `channels`."""

    codec: int
    dtype: int
    count: int
    channels: int
    inner: int
    scales: Floats

    @classmethod
    def parse(cls, reader: Reader) -> "Header":
        """Raises PackError for any field out of its range."""
        forms, count, channels = reader.u8(), reader.varint(), reader.varint()
        codec, dtype, form = forms & 3, forms >> 2 & 3, forms >> 4
        inner = reader.varint() if channels > 1 else 1
        if codec >= len(NAMES) or dtype > FLOAT16 or form > OCTAVES:
            raise PackError(f"codec {codec}, dtype {dtype} or scale form {form} of the weights is unknown")
        if not (count and 1 <= channels <= MOST_CHANNELS and inner):
            raise PackError(
                f"the weights' count {count}, channels {channels} or inner {inner} is out of range"
            )
        if form == OCTAVES:
            return cls(codec, dtype, count, channels, inner, octaves(_exponents(reader, channels)))
        if form == SHORT:
            scales = np.array([reader.u16() << 16], np.uint32).view(np.float32)
        else:
            scales = np.frombuffer(reader.read(4 * channels if form else 0), "<f4").astype(np.float32)
        if not (np.isfinite(scales) & (scales > 0)).all():
            raise PackError("a scale of the weights is not finite and positive")
        return cls(codec, dtype, count, channels, inner, scales)


def octaves(exponents: npt.NDArray[np.int64]) -> Floats:
    """About 2^(exponent / 1024), as the pack format has it, of LEAST_EXPONENT to MOST_EXPONENT."""
    coarse = np.rint(2 ** (23 + np.arange(32) / 32)).astype(np.int64)[exponents >> 5 & 31]
    fine = np.rint(2 ** (23 + np.arange(32) / 1024)).astype(np.int64)[exponents & 31]
    return np.asarray(np.ldexp((coarse * fine >> 23).astype(np.float32), (exponents >> 10) - 23), np.float32)


def _exponents(reader: Reader, channels: int) -> npt.NDArray[np.int64]:
    shift, base = reader.u8(), reader.signed()
    if shift > MOST_SHIFT:
        raise PackError(f"the shift {shift} of the weights' scales is out of range")
    exponents = base + np.array(rice.read(reader, channels), np.int64) << shift
    if exponents.min() < LEAST_EXPONENT or exponents.max() > MOST_EXPONENT:
        raise PackError("a scale of the weights is out of range")
    return exponents


class Decoder(ABC):
    """Grows weights; the caller asks for them in order, `index` counting those before.

    `scales`: those of its levels, of length 1 or channels, or 0 if it grows floats only.
    """

    def __init__(self, reader: Reader, header: Header) -> None:
        self.header = header
        self.scales = header.scales
        self._reader = reader

    @abstractmethod
    def levels(self, index: int, n: int) -> Levels:
        """The next n levels."""

    def floats(self, index: int, n: int) -> Floats:
        """The next n real weights: level * scale, rounded once to float32."""
        scales = self.scales
        if scales.size > 1:
            scales = scales[np.arange(index, index + n) // self.header.inner % self.header.channels]
        with np.errstate(over="ignore", under="ignore"):
            return self.levels(index, n) * scales

    def rewind(self) -> None:  # noqa: B027 - those without state have nothing to do
        """Go back to weight 0."""
