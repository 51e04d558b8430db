"""Codec grid: levels coded by range ANS (Duda 2013, arXiv:1311.2540) with the model of `gridmodel`."""

from collections.abc import Sequence

import numpy as np

from regrow import codecs
from regrow.codecs import Header, Levels
from regrow.codecs.gridmodel import CONSTANT, Model
from regrow.codecs.gridstripes import LOW, Cells, Group, Stripes, Tables
from regrow.errors import PackError
from regrow.reader import Reader

_GROUP = 1 << 18
"""Weights of the stripes that are decoded together, unless a stripe alone has more."""


class Decoder(codecs.Decoder):
    def __init__(self, reader: Reader, header: Header) -> None:
        super().__init__(reader, header)
        if header.dtype != codecs.INT8 or not header.scales.size:
            raise PackError("grid weights have dtype 0 and scales")
        forms = reader.u8()
        self._constant = reader.i8() if forms == CONSTANT else None
        if forms == CONSTANT:
            if reader.left:
                raise PackError("constant grid weights do not end where they should")
            return
        self._model = Model.parse(forms, reader)
        stripes = -(-header.count // self._model.stripe)
        if stripes > 1 + reader.left:
            raise PackError("grid weights are cut short")
        less = [reader.signed() for _ in range(stripes - 1)]
        sizes = [reader.left // stripes + each for each in less]
        self._sizes = [*sizes, reader.left - sum(sizes)]
        self._tables = Tables(self._model)
        self._start = reader.position
        self.rewind()

    def rewind(self) -> None:
        if self._constant is not None:
            return
        self._reader.seek(self._start)
        self._stripe = 0
        self._ahead = np.empty(0, np.int8)
        self._past = np.zeros((1 + bool(self._model.context), self._model.farthest), np.int32)

    def levels(self, index: int, n: int) -> Levels:
        """Whole groups of stripes are decoded; what was not asked for yet waits in `_ahead`."""
        if self._constant is not None:
            return np.full(n, self._constant, np.int8)
        while self._ahead.size < n:
            decode_ahead([self])
        levels = self._ahead[:n]
        self._ahead = self._ahead[n:]
        return levels

    def group(self) -> Group | None:
        """The next group of stripes, if there is one."""
        if self._constant is not None or self._stripe == len(self._sizes):
            return None
        first, stripe = self._stripe, self._model.stripe
        stripes = min(max(1, _GROUP // stripe), len(self._sizes) - first)
        count = min(stripes * stripe, self.header.count - first * stripe)
        states, words = [], []
        for size in self._sizes[first : first + stripes]:
            state, code = _begin(self._reader.read(size))
            states.append(state)
            words.append(code)
        return Group(self._model, self._tables, first, count, self._past, states, words)

    def take(self, group: Group, cells: Cells) -> None:
        """The group has been decoded into `cells`, as `Group.past` has them."""
        farthest, count = self._model.farthest, group.count
        levels = (cells[0, farthest : farthest + count] + self._model.centre).astype(np.int8)
        self._ahead = np.concatenate([self._ahead, levels]) if self._ahead.size else levels
        self._past = cells[:, cells.shape[1] - farthest :].copy()
        self._stripe += len(group.states)


def _begin(code: bytes) -> tuple[int, bytes]:
    """The state with which a stripe begins, and the words that follow."""
    odd = len(code) % 2
    state, place = code[0] if odd else 0, odd
    while state < LOW and place < len(code):
        state = state << 16 | int.from_bytes(code[place : place + 2], "little")
        place += 2
    return state, code[place:]


def decode_ahead(decoders: Sequence[Decoder]) -> None:
    """Decode the next group of stripes of each decoder, all side by side; the levels wait in the decoders."""
    found = [(each, group) for each in decoders if (group := each.group())]
    if not found:
        return
    stripes = Stripes([group for _, group in found])
    stripes.decode()
    for number, (decoder, group) in enumerate(found):
        decoder.take(group, stripes.cells_of(number))
