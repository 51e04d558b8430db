"""Rice codes (Rice 1979) of a list of integers (docs/pack-format.md, "Integers")."""

from regrow.errors import PackError
from regrow.reader import Reader

ESCAPE = 16
"""So many ones, and the value follows in as many bits as LARGEST has."""
RAW_BITS = 30
MOST_K = 24


def read(reader: Reader, count: int) -> list[int]:
    """The next `count` integers, of at most 29 bits and a sign. Raises PackError where they break off."""
    k = reader.u8()
    if k > MOST_K or count > 8 * reader.left:
        raise PackError(f"Rice codes of {count} values with parameter {k} are out of range")
    bits = _Bits(reader)
    values = []
    for _ in range(count):
        high = 0
        while high < ESCAPE and bits.read(1):
            high += 1
        value = bits.read(RAW_BITS) if high == ESCAPE else high << k | bits.read(k)
        values.append(-(value >> 1) - 1 if value & 1 else value >> 1)
    return values


class _Bits:
    """The bits of a reader's bytes, the lowest first."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._bits = self._count = 0

    def read(self, n: int) -> int:
        """The next n bits as a number whose lowest bit came first."""
        while self._count < n:
            self._bits |= self._reader.u8() << self._count
            self._count += 8
        value = self._bits & (1 << n) - 1
        self._bits >>= n
        self._count -= n
        return value
