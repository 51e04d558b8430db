"""The forms of weights that are mostly zero.

A row has, per block of 256 terms, u8 steps, then 8 pairs a step: 128 + weight, place in the block. The zero
point is taken off; what is beyond -128 .. 127 then takes two pairs or three, and the last step ends with
weights of 0. In the record:
sparse  per tile u32 bytes, and channels from bit 20 on, then the heads, the rows, zeros up to a multiple of
        4; behind the last tile u32 0
single  tiles of one size, u16 rows and the rows, then the heads of all channels, with BIAS once
"""

from array import array

from micropython import const

from ..quant import BIAS
from .channels import HEAD
from .forms import Form, survey, walk

_BLOCK = const(256)
_MOST_ROWS = const(1023)  # of a tile


class Sparse(Form):
    """`longest`: pairs of the longest row. A tile has as many rows as there is room for."""

    kernel = "sparse"
    width = 1

    def __init__(self, space, zero, longest, words):
        self._blocks = (space.terms + _BLOCK - 1) // _BLOCK
        self.size = self._bytes(words[3] // space.channels + 1)
        self.extra = 12 + max(0, self._bytes(longest) - self.size)
        super().__init__(space, 1)
        self._zero = zero
        self.skipped = min((1 << 30) - 1, space.positions * words[4])

    def _bytes(self, pairs):
        """Of a row of so many pairs."""
        return HEAD + self._blocks + 2 * pairs

    def share(self):
        batch = super().share()
        self.tile = min(self.tile, _MOST_ROWS)
        self.tile_bytes = (self.tile_bytes + self.extra) & -4
        return batch

    def write(self, out, lines):
        terms = self.space.terms
        heads = bytearray(HEAD * self.tile)
        rows = bytearray(self.tile_bytes - HEAD)
        words = array("I", bytes(20))
        count = end = 0
        for channel in range(self.space.channels):
            lines.read()
            words[2] = 0
            survey(lines.levels, terms, self._zero, words)
            if count == self.tile or HEAD * count + end + self._bytes(words[2]) + 8 > self.tile_bytes:
                self._flush(out, heads, rows, count, end)
                count = end = 0
            heads[HEAD * count : HEAD * count + HEAD] = bytes(array("i", lines.head(channel)))
            end = self._walk(lines.levels, rows, end)
            count += 1
        self._flush(out, heads, rows, count, end)
        out.write(bytes(4))

    def _walk(self, levels, rows, end):
        """Write a row at that byte, and give where it ends."""
        for start in range(0, self.space.terms, _BLOCK):
            block = levels[start : start + _BLOCK]
            end = walk(block, len(block), self._zero, rows, end)
        return end

    def _flush(self, out, heads, rows, count, end):
        end = (end + 3) & -4
        out.write(array("I", (HEAD * count + end | count << 20,)))
        out.write(memoryview(heads)[: HEAD * count])
        out.write(memoryview(rows)[:end])


class Single(Sparse):
    """Sparse rows of a layer with one position: tiles of `tile_bytes`, `tile` of them, then all heads."""

    kernel = "single"

    def __init__(self, space, zero, longest, words):
        super().__init__(space, zero, longest, words)
        self.zero = 0  # heads have it
        self._pairs = words[3]
        self._longest = self._bytes(longest) - HEAD

    def fits(self):
        space = self.space
        self._sums = 4 * space.channels + 4
        return space.positions == 1 and not space.column and self._room() >= 2 * self._longest + HEAD

    def _room(self):
        """Bytes of rows that there is room for in a tile."""
        return (self.space.room - self._sums & -4) - 4

    def share(self):
        total = self.space.channels * self._blocks + 2 * self._pairs
        rows = self._room() - self._longest - 8
        self.tile = (total + rows - 1) // rows
        self.tile_bytes = self.size = 4 + ((total + self.tile - 1) // self.tile + self._longest + 3 & -4)
        self.batch = 0

    def write(self, out, lines):
        channels = self.space.channels
        rows = bytearray(self.size)
        words = array("I", bytes(20))
        tiles = count = 0
        end = 2
        for _ in range(channels):
            lines.read()
            words[2] = 0
            survey(lines.levels, self.space.terms, self._zero, words)
            if end + self._blocks + 2 * words[2] > self.size:
                self._put(out, rows, count)
                tiles += 1
                count, end = 0, 2
            end = self._walk(lines.levels, rows, end)
            count += 1
        while tiles < self.tile:
            self._put(out, rows, count)
            tiles += 1
            count = 0
        lines.weights.rewind()
        for channel in range(channels):
            lines.read()
            head = array("i", lines.head(channel))
            head[0] -= BIAS
            out.write(head)

    def _put(self, out, rows, count):
        rows[0], rows[1] = count & 255, count >> 8
        out.write(rows)
