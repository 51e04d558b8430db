"""The form of weights that are mostly zero where inputs often are, too: input by input.

An input has u8 steps, u8 pairs in them that are no weight's first, 8 pairs a step, each 128 + weight and how
many bytes its sum stands behind that of the pair before, then u8 0. The zero point is taken off. What is then
beyond -127 .. 127 takes two pairs or three, what stands too far behind takes more with weights of 0, and the
last step ends with such. In the record: tiles of one size, u16 inputs and the inputs, then the heads of all
channels, with BIAS once; where there are more positions than one, the heads, then all inputs in one tile.
"""

from array import array

from micropython import const

from ..quant import BIAS
from .channels import HEAD
from .forms import Form, blank, put, seal

_LONGEST = const(3 + 16 * 255)  # bytes of an input
_PASS = const(2048)  # bytes that one pass over all weights writes, as they are in RAM until then
_MOST_PASSES = const(48)
_MOST_ROOM = const(65532)


class Scatter(Form):
    kernel = "scatter"
    size = 0

    def __init__(self, space, lines, zero, words):
        self.width = space.channels
        self._once = space.positions == 1
        super().__init__(space, not self._once)
        self._lines = lines
        self._zero = zero
        self.skipped = min((1 << 30) - 1, space.positions * words[4])

    def fits(self):
        """Count the pairs of every input, and settle which inputs each tile has."""
        space = self.space
        heads = 0 if self._once else HEAD * space.channels
        room = min(_MOST_ROOM, space.room - heads - 4 * space.channels - 8 & -4)
        self._last = array("H", bytes(2 * space.terms))
        self._places = array("H", self._last)
        self._each_channel(0, space.terms, bytearray(1))
        self._tiles = [[]]  # how many inputs each pass over the weights writes, tile by tile
        most, end, left, passes = HEAD, 2, 0, 0
        for pairs in self._places:
            size = _bytes(pairs)
            if size > min(_LONGEST, room - 2):
                return False
            if end + size > room:
                self._tiles.append([])
                end, left = 2, 0
            if size > left:
                self._tiles[-1].append(0)
                left = max(_PASS, size)
                passes += 1
            self._tiles[-1][-1] += 1
            end += size
            left -= size
            most = max(most, end)
        self.size = heads + (most + 3 & -4)
        return passes <= _MOST_PASSES and (self._once or len(self._tiles) == 1)

    def share(self):
        if not self._once:
            return super().share()
        self.batch = 0
        self.tile = len(self._tiles)
        self.tile_bytes = self.size

    def write(self, out, lines):
        if not self._once:
            self._write_heads(out)
        size = self.size - (0 if self._once else HEAD * self.space.channels)
        piece = bytearray(max(_PASS, _bytes(max(self._places))))
        first = 0
        for counts in self._tiles:
            out.write(array("H", (sum(counts),)))
            left = size - 2
            for count in counts:
                end = self._fill(piece, first, first + count)
                out.write(memoryview(piece)[:end])
                left -= end
                first += count
            while left:
                end = min(left, len(piece))
                out.write(memoryview(piece)[:end])
                left -= end
        if self._once:
            self._write_heads(out)

    def _fill(self, piece, first, last):
        """Put those inputs at the front of the piece, and give where they end."""
        places = self._places
        end = 0
        for i in range(first, last):
            size = _bytes(places[i])
            piece[end] = size >> 4
            places[i] = end + 2
            end += size
        blank(piece, last - first)
        self._each_channel(first, last, piece)
        seal(piece, last - first)
        return end

    def _write_heads(self, out):
        lines = self._lines
        lines.weights.rewind()
        for channel in range(self.space.channels):
            lines.read()
            head = array("i", lines.head(channel))
            head[0] -= BIAS * self._once
            out.write(head)

    def _each_channel(self, first, last, tile):
        lines = self._lines
        lines.weights.rewind()
        for i in range(first, last):
            self._last[i] = 0
        for channel in range(self.space.channels):
            lines.read()
            put(
                lines.levels,
                first,
                last,
                self._zero,
                channel + 1,
                self._places,
                self._last,
                tile,
                len(tile) > 1,
            )


def _bytes(pairs):
    return 3 + (pairs + 7 >> 3 << 4)
