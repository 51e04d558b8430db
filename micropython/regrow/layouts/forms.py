"""The forms that the weights of CONV_2D and FULLY_CONNECTED may take, of which a layer gets the fastest.

Each is a file of that name in kernels/. In the record stands tile by tile, a tile being some output channels:
rows    per channel its head and its weights
eights  per group of eight channels their heads, then term by term the eight weights
lanes   the same for weights of 4 bits, with the eight in 4 bytes; each has the lowest level taken off
pixels8, pixels4: see pixels.py
sparse, single: see sparse.py
scatter: see scatter.py
"""

from array import array

import micropython
from micropython import const

from .channels import HEAD, TILE

_WIDTH = const(8)  # channels in a group
_LARGEST = const(12288)  # bytes of a group that a layer has a claim to
_ONCE_TILE = const(6144)  # instead of TILE for a layer with one position, whose weights serve once
_LONGEST_LIST = const(8191)  # so that places in a group fit 16 bits
_BATCH = const(8)  # positions worth taking together
_BATCH_BYTES = const(640)  # that a layer has a claim to for them, as far as it goes
_BLOCK = const(256)
_PIECE = const(64)  # terms of a group that are in one piece
_SHALLOW = const(8)  # channels of an image whose pixels are listed
_ROW = const(4095)  # values of a row of such an image
# What a product costs, as measured on a desktop; on a Cortex-M3 the ratios are about the same.
_ROWS = const(52)
_EIGHTS = const(39)
_LANES = const(23)
_SPARSE = const(60)
_START = const(300)  # to start a block of a sparse row
_SCATTER = const(45)  # where half of the inputs are 0
_INPUT = const(160)  # to start an input
_HALF = const(25)  # of eights where half of the inputs are 0
_UNPACK = const(41)  # of lanes besides, a position, where they are unpacked for one
_COPY = const(70)  # to copy a value of a window
_CALLS = const(30000)  # of kernels, for the positions taken together
_LISTED = const(20)  # of eights where one list of inputs serves all channels, and half of them are 0
_READ = const(14)  # besides, where a weight serves once: to read it
_UNPACKED = const(4)  # positions that pay for unpacking


class Space:
    """What a layer has to work in: `room` bytes, for `positions` of `terms` values.

    `length`: terms of a column, where windows are gathered a multiple of 4. `whole`: all channels must be in
    one tile. `zeros`: inputs may often be 0, as they are behind a RELU. `image`: rows and columns of the
    output, columns and depth of the input, how many rows of the input one row needs, and the next one more.
    `taps`: of a row of the filter.
    """

    def __init__(self, image, taps, channels, terms, gathers, whole, zeros):
        self.image = image
        self.positions = positions = image[0] * image[1]
        depth = image[3]
        self.channels = channels
        self.terms = terms
        self.length = (terms + 3) & -4 if gathers else terms
        self.column = self.length if gathers else 0
        self.whole = whole
        self.lists = zeros and channels > _WIDTH and self.length <= _LONGEST_LIST
        entries = image[2] * depth  # of a row; each has the place of its weights in 16 bits
        self.pixels = self.lists and gathers and positions > 1 and depth >= _SHALLOW and entries <= _ROW
        self.unpacked = 2 * _WIDTH * taps * depth
        self.room = 0

    def least(self):
        """Bytes for a tile of TILE bytes, or of one group, or of one row if groups are too large."""
        group = _WIDTH * (HEAD + self.length)
        form = Eights(self, 128) if group <= _LARGEST else Rows(self, 128)
        tile = TILE if self.positions > 1 else _ONCE_TILE
        tile = form.groups if self.whole else min(form.groups, max(1, tile // form.size))
        if self.pixels:
            from .pixels import least

            needed = least(self, form.groups)
            if needed <= _LARGEST:
                return needed
        return form.needs(tile, max(1, min(self.positions, _BATCH_BYTES // form.position(tile))))


def choose(space, lines, zero):
    """The form, from what one look at all weights tells."""
    words = array("I", (255, 0, 0, 0, 0))
    blocks = (space.terms + _BLOCK - 1) // _BLOCK
    longest = 0
    for _ in range(space.channels):
        lines.read()
        words[2] = 0
        survey(lines.levels, space.terms, zero, words)
        longest = max(longest, words[2])
    lowest, highest = min(words[0], zero), max(words[1], zero)
    best = Eights(space, zero)
    cost = _LISTED if best.lists and space.positions == 1 else _EIGHTS
    four = highest - lowest < 16 and space.positions >= _UNPACKED
    if four:
        lanes = Lanes(space, zero, lowest)
        if lanes.fits():
            product = _LANES + _UNPACK // lanes.share()
            if not best.fits() or lanes.cost(product) < best.cost(_HALF if space.lists else _EIGHTS):
                best, cost = lanes, _LANES
    if space.pixels:
        from .pixels import pixels

        listed = pixels(space, zero, lowest if four else -1)
        if listed:
            best, cost = listed, listed.cost
    if not best.fits():
        best, cost = Rows(space, zero), _ROWS
    read = _READ if space.positions == 1 else 0
    dense_cost = (cost + read) * best.groups * best.width * space.length
    sparse_cost = (_SPARSE + read) * words[3] + _START * blocks * space.channels
    if space.lists and not space.column:
        pairs = space.channels * space.terms - words[4] + 4 * space.terms
        if (_SCATTER + read) * pairs + _INPUT * space.terms < min(sparse_cost, dense_cost):
            from .scatter import Scatter

            found = Scatter(space, lines, zero, words)
            if found.fits():
                best, dense_cost = found, 0
    if sparse_cost < dense_cost:
        best = sparse(space, lines, zero, longest, words) or best
    best.share()
    return best


def sparse(space, lines, zero, longest, words):
    """The sparse form of such weights, None if there is no room for it."""
    from .sparse import Single, Sparse

    for form in (Single, Sparse):
        found = form(space, lines, zero, longest, words)
        if found.fits():
            return found
    return None


class Form:
    """How a layer's weights stand in a tile: `groups` of `width` channels in `size` bytes.

    `zero`: what the kernel subtracts, times the sum of a column. `skipped`: products that are left out.
    `extra`: bytes it needs besides. `lists`: 4 if it lists the inputs that are not 0.
    """

    extra = lists = 0

    def __init__(self, space, zero):
        self.space = space
        self.zero = zero
        self.skipped = 0
        self.groups = (space.channels + self.width - 1) // self.width

    def needs(self, groups, batch):
        """Bytes for so many groups and positions at one time."""
        return self.extra + groups * self.size + batch * self.position(groups)

    def position(self, groups):
        """Bytes for one position: its column, and its sums for so many groups."""
        return self.space.column + 4 + 4 * self.width * groups

    def fits(self):
        return self.needs(self.groups if self.space.whole else 1, 1) <= self.space.room

    def share(self):
        """Settle `tile` (channels), `tile_bytes` and `batch` (positions): as few passes over the positions as
        there is room for. Gives the batch."""
        space = self.space
        batch = min(space.positions, _BATCH)
        groups = self.groups
        if not space.whole:
            while groups > 1 and self.needs(groups, batch) > space.room:
                groups -= 1
            passes = (self.groups + groups - 1) // groups
            groups = (self.groups + passes - 1) // passes
        self.batch = min(space.positions, (space.room - self.needs(groups, 0)) // self.position(groups))
        self.tile = min(space.channels, groups * self.width)
        self.tile_bytes = groups * self.size
        return self.batch

    def cost(self, product):
        """What a position costs, where a product costs so much."""
        space = self.space
        batch = self.share()
        passes = (space.channels + self.tile - 1) // self.tile
        products = self.groups * self.width * space.length
        return product * products + passes * (_COPY * space.column + _CALLS // batch)


class Rows(Form):
    kernel = "rows"
    width = 1

    def __init__(self, space, zero):
        self.size = HEAD + ((space.length + 3) & -4)
        super().__init__(space, zero)

    def write(self, out, lines):
        pad = bytes(self.size - HEAD - self.space.terms)
        for channel in range(self.space.channels):
            lines.read()
            out.write(array("i", lines.head(channel)))
            out.write(lines.levels)
            out.write(pad)


class Eights(Form):
    kernel = "eights"
    width = _WIDTH
    term = 8  # bytes of a group's weights for a term

    def __init__(self, space, zero):
        self.size = _WIDTH * (HEAD + space.length)
        super().__init__(space, zero)
        if space.lists:
            self.lists = 4
            self.extra = 4 * (space.length + 3)

    def write(self, out, lines):
        channels = self.space.channels
        heads = array("i", bytes(_WIDTH * HEAD))
        left = self._group_bytes()
        pieces = []  # as the heap has no long piece free
        while left:
            pieces.append(bytearray(min(left, self.term * _PIECE)))
            left -= len(pieces[-1])
        for channel in range(channels):
            i = channel % _WIDTH
            lines.read()
            heads[4 * i : 4 * i + 4] = array("i", lines.head(channel))
            for n in range(len(pieces)):
                levels = lines.levels[n * _PIECE : n * _PIECE + _PIECE]
                self._put(levels, pieces[n], i, len(levels))
            if i == _WIDTH - 1 or channel == channels - 1:
                out.write(heads)
                for piece in pieces:
                    out.write(piece)

    def _group_bytes(self):
        return self.term * self.space.length

    def _put(self, levels, group, i, count):
        spread(levels, group, i, count)


class Lanes(Eights):
    kernel = "lanes"
    term = 4

    def __init__(self, space, zero, lowest):
        super().__init__(space, zero - lowest)
        self.size = _WIDTH * HEAD + self._group_bytes()
        self.lists = 0
        self.extra = 2 * _WIDTH * space.length
        self._lowest = lowest

    def _put(self, levels, group, i, count):
        pack(levels, group, i, count, self._lowest)


@micropython.viper
def survey(levels: ptr8, count: int, zero: int, words: ptr32):
    """Note the lowest and the highest weight and how many pairs a sparse row has, here, in all, and zeros."""
    while count:
        block = 256
        if block > count:
            block = count
        count -= block
        pairs = 0
        while block:
            w = levels[0]
            levels = ptr8(uint(levels) + 1)
            if w < words[0]:
                words[0] = w
            if w > words[1]:
                words[1] = w
            w -= zero
            if w == 0:
                words[4] = words[4] + 1
            while w:
                more = 0
                if w > 127:
                    more = w - 127
                if w < -127:
                    more = w + 127
                w = more
                pairs += 1
            block -= 1
        pairs = (pairs + 7) & -8
        words[2] = words[2] + pairs
        words[3] = words[3] + pairs


@micropython.viper
def spread(levels: ptr8, group: ptr8, at: int, count: int):
    """One channel's weights into every eighth place of its group."""
    group = ptr8(uint(group) + at)
    while count:
        group[0] = levels[0]
        levels = ptr8(uint(levels) + 1)
        group = ptr8(uint(group) + 8)
        count -= 1


@micropython.viper
def pack(levels: ptr8, group: ptr8, at: int, count: int, lowest: int):
    """One channel's weights into the lower or upper half of every fourth byte of its group."""
    group = ptr8(uint(group) + (at >> 1))
    shift = (at & 1) << 2
    kept = 0xF0 >> shift
    while count:
        group[0] = (group[0] & kept) | ((levels[0] - lowest) << shift)
        levels = ptr8(uint(levels) + 1)
        group = ptr8(uint(group) + 4)
        count -= 1


@micropython.viper
def walk(levels: ptr8, count: int, zero: int, rows: ptr8, at: int) -> int:
    """Write a block of a sparse row at that byte, and give where it ends.

    It stands here, with what scatter.py needs, as some ports keep a record of a module's machine code, which
    would cut the heap in two.
    """
    pairs = 0
    i = 0
    while i < count:
        w = levels[i] - zero
        while w:
            more = 0
            if w > 127:
                more = w - 127
            if w < -127:
                more = w + 127
            rows[at] = w - more + 128
            rows[at + 1] = i
            at += 2
            pairs += 1
            w = more
        i += 1
    while pairs & 7:
        rows[at] = 128
        rows[at + 1] = 0
        at += 2
        pairs += 1
    rows[at] = 0
    return at + 1


@micropython.viper
def put(
    levels: ptr8, i: int, end: int, zero: int, slot: int, places: ptr16, last: ptr16, tile: ptr8, writes: int
):
    """Add the pairs of a channel to those of its inputs: only their count if it does not write."""
    while i < end:
        w = levels[i] - zero
        if w:
            at = places[i]
            gap = slot - last[i]
            last[i] = slot
            while w:
                v = w
                if v > 127:
                    v = 127
                if v < -127:
                    v = -127
                step = gap
                if gap > 63:
                    step = 63
                    v = 0
                gap -= step
                w -= v
                if writes:
                    tile[at] = v + 128
                    tile[at + 1] = step << 2
                    at += 2
                else:
                    at += 1
            places[i] = at
        i += 1


@micropython.viper
def blank(tile: ptr8, inputs: int):
    """Weights of 0 into all pairs, and what ends them."""
    while inputs:
        n = tile[0] << 3
        tile = ptr8(uint(tile) + 2)
        while n:
            tile[0] = 128
            tile[1] = 0
            tile = ptr8(uint(tile) + 2)
            n -= 1
        tile[0] = 0
        tile = ptr8(uint(tile) + 1)
        inputs -= 1


@micropython.viper
def seal(tile: ptr8, inputs: int):
    """Note with each input how many of its pairs are no weight's first."""
    while inputs:
        head = tile
        n = tile[0] << 3
        more = 0
        while n:
            tile = ptr8(uint(tile) + 2)
            if tile[0] == 128 or tile[1] == 0:
                more += 1
            n -= 1
        if more > 255:
            more = 255
        head[1] = more
        tile = ptr8(uint(tile) + 3)
        inputs -= 1
