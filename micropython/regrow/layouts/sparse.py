"""The forms of weights that are mostly zero.

A row has, per block of 256 terms, steps of 8 pairs, 128 + weight and place in the block, then u8 0. The zero
point is taken off; what is beyond -127 .. 127 then takes two pairs or three, and the last step ends with
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
_PIECE = const(64)  # bytes of what fills a tile


class Sparse(Form):
    """`longest`: pairs of the longest row. A tile has as many rows as there is room for."""

    kernel = "sparse"
    width = 1

    def __init__(self, space, lines, zero, longest, words):
        self._blocks = (space.terms + _BLOCK - 1) // _BLOCK
        self.size = self._bytes(words[3] // space.channels + 1)
        self.extra = 12 + max(0, self._bytes(longest) - self.size)
        super().__init__(space, 1)
        self._lines = lines
        self._words = words
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
        heads = bytearray(HEAD * self.tile)
        rows = bytearray(self.tile_bytes - HEAD)
        count = end = 0
        for channel in range(self.space.channels):
            size = self._read()
            if count == self.tile or HEAD * (count + 1) + end + size + 8 > self.tile_bytes:
                self._flush(out, heads, rows, count, end)
                count = end = 0
            heads[HEAD * count : HEAD * count + HEAD] = bytes(array("i", lines.head(channel)))
            end = self._walk(lines.levels, rows, end)
            count += 1
        self._flush(out, heads, rows, count, end)
        out.write(bytes(4))

    def _read(self):
        """Take the weights of the next channel; gives the bytes of their row."""
        self._lines.read()
        words = self._words
        words[2] = 0
        survey(self._lines.levels, self.space.terms, self._zero, words)
        return self._blocks + 2 * words[2]

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

    def __init__(self, space, lines, zero, longest, words):
        super().__init__(space, lines, zero, longest, words)
        self.zero = 0  # heads have it
        self._longest = self._bytes(longest) - HEAD

    def fits(self):
        space = self.space
        self._room = space.room - 4 * space.channels - 8 & -4
        return space.positions == 1 and not space.column and self._room >= max(HEAD, self._longest + 2)

    def share(self):
        """Settle which rows each tile has, so that none needs to be in RAM."""
        self._lines.weights.rewind()
        self._counts = []
        most, end, count = HEAD, 2, 0
        for _ in range(self.space.channels):
            size = self._read()
            if end + size > self._room:
                self._counts.append(count)
                end, count = 2, 0
            end += size
            count += 1
            most = max(most, end)
        self._counts.append(count)
        self.tile = len(self._counts)
        self.tile_bytes = self.size = most + 3 & -4
        self.batch = 0

    def write(self, out, lines):
        row = bytearray(max(self._longest, _PIECE))
        for count in self._counts:
            out.write(array("H", (count,)))
            left = self.size - 2
            for _ in range(count):
                lines.read()
                end = self._walk(lines.levels, row, 0)
                out.write(memoryview(row)[:end])
                left -= end
            while left:
                end = min(left, _PIECE)
                out.write(memoryview(row)[:end])
                left -= end
        lines.weights.rewind()
        for channel in range(self.space.channels):
            lines.read()
            head = array("i", lines.head(channel))
            head[0] -= BIAS
            out.write(head)
