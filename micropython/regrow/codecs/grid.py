"""Codec 2: levels, entropy coded under a model of the next level (docs/pack-format.md, "Codec 2, grid")."""

from micropython import const

from ..errors import PackError
from .gridkernel import decode, fill, fill_shares

# Places in the words of `gridkernel`.
_PLACE = const(0)
_END = const(1)
_STATE = const(2)
_COLUMN = const(3)
_STRIPE = const(4)
_NOW = const(5)
_MORE = const(6)  # bytes
_LENGTH = const(15)
_CONSTANT = const(0x60)  # the form of a body that is one level
_CONTEXT = const(29)  # distance, stripes, columns, shift, weight, place


class Decoder:
    _constant = -1

    def __init__(self, reader, count, scratch):
        forms = reader.u8()
        if forms == _CONSTANT:
            self._constant = reader.u8()
            if reader.left:
                raise PackError("a grid weights part has more than its one level")
            return
        from .gridmodel import read_model  # the installer gives its heap back

        self._reader = reader
        self._scratch = scratch
        self._count = count
        self._words = read_model(forms, reader, count, scratch)
        stripes = -(-count // self._words[_LENGTH])
        self._stripes = stripes
        self._sizes = reader.position
        total = 0
        for _ in range(1, stripes):
            total += reader.signed()
        self._body = reader.position
        self._mean = reader.left // stripes
        self._last = reader.left - (stripes - 1) * self._mean - total

    def rewind(self):
        if self._constant >= 0:
            return
        words = self._words
        fill_shares(self._scratch.halves, words)
        words[_STRIPE] = words[_NOW] = words[_CONTEXT + 5] = 0
        self._left = self._count
        self._place = self._sizes
        self._reader.seek(self._body)
        self._begin_stripe()

    def _begin_stripe(self):
        """Read the next stripe's size, from where the sizes are, and its state."""
        reader = self._reader
        words = self._words
        left = self._last
        if words[_STRIPE] + 1 < self._stripes:
            place = reader.position
            reader.seek(self._place)
            left = self._mean + reader.signed()
            self._place = reader.position
            reader.seek(place)
        if left < 0:
            raise PackError("a stripe of a grid weights part has fewer than no bytes")
        state = reader.u8() if left & 1 else 0
        left &= -2
        while state < 0x4000 and left:
            state = state << 16 | reader.u16()
            left -= 2
        words[_STATE] = state
        words[_MORE] = left
        words[_COLUMN] = words[_PLACE] = words[_END] = 0

    def grow(self, out, count):
        if self._constant >= 0:
            fill(out, count, self._constant)
            return
        scratch = self._scratch
        words = self._words
        done = 0
        while done < count:
            if words[_COLUMN] == words[_LENGTH]:
                self._end_stripe()
                words[_STRIPE] += 1
                self._begin_stripe()
            if words[_PLACE] == words[_END] and words[_MORE]:
                load = min(words[_MORE], len(scratch.io))
                self._reader.readinto(scratch.io, load)
                words[_MORE] -= load
                words[_PLACE] = 0
                words[_END] = load >> 1
            self._left += done
            done = decode(out, done, count, scratch.io, words, scratch.table, scratch.halves)
            self._left -= done
            if self._left == 0:
                self._end_stripe()

    def _end_stripe(self):
        words = self._words
        if words[_MORE] or words[_PLACE] != words[_END] or words[_STATE]:
            raise PackError("a stripe of a grid weights part has more or fewer words than it needs")
