"""docs/pack-format.md, "Codec 2, grid", read word by word in plain Python, one weight after the other."""

# ruff: noqa: PLR0917 (a model's fields, in their order)
import struct
from array import array

SHAPES = (
    (30583, 32788, 32588),
    (31173, 32776, 32513),
    (31465, 32772, 32513),
    (31760, 32768, 32767),
    (32007, 32764, 32767),
    (32255, 32759, 32767),
    (32506, 32753, 32767),
    (32758, 32748, 32767),
)
MANTISSAS = (32768, 30048, 27554, 25268, 23170, 21247, 19484, 17867)


def varint(value):
    low = b""
    while value > 127:
        low += bytes([value & 127 | 128])
        value >>= 7
    return low + bytes([value])


def half_octaves(value):
    octave = 15
    while octave and value < 1 << octave:
        octave -= 1
    return 2 * octave + (value >= 46341 >> (15 - octave))


def shares(shape):
    ratio, change, most = SHAPES[shape]
    density, sums = 1 << 15, array("I", [0])
    for _ in range(512):
        sums.append(sums[-1] + density)
        density = density * ratio >> 15
        ratio = min(ratio * change >> 15, most)
    unit = sums[-1] >> 9
    return array("H", (min(1 << 15, (each << 6) // unit) for each in sums))


def signed(value):
    return varint(2 * value if value >= 0 else -2 * value - 1)


class Model:
    """`near`: (distance, weight) pairs; `context`: a (distance, shift, weight) triple or None."""

    def __init__(self, centre, reach, spread, shape, stripe, near=(), context=None, slope=0, size=0):
        self.centre, self.reach, self.spread, self.shape, self.stripe = centre, reach, spread, shape, stripe
        self.near, self.context, self.slope, self.size = near, context, slope, size
        self.shares = shares(shape)
        self.first = MANTISSAS[-size % 8] >> (15 - (size + 7) // 8)
        self.levels = array("h")
        self.averages = array("H")

    @classmethod
    def parse(cls, body):
        """The model and where it ends."""
        forms, centre = struct.unpack_from("<Bb", body)
        place = 1 + (forms >> 7)
        centre = centre if place > 1 else 0
        reach, spread = body[place], body[place + 1]
        place += 2

        def number():
            nonlocal place
            value = shift = 0
            while True:
                value |= (body[place] & 127) << shift
                shift += 7
                place += 1
                if body[place - 1] < 128:
                    return value

        stripe = 16 * (1 + number())
        near, context, slope, size = [], None, 0, 0
        for _ in range(forms >> 3 & 3):
            distance = number()
            near.append((distance, struct.unpack_from("<b", body, place)[0]))
            place += 1
        assert not forms & 64
        if forms & 32:
            slope, size = body[place], body[place + 1]
            place += 2
            distance = number()
            context = distance, body[place] & 15, body[place] >> 4
            place += 1
        return cls(centre, reach, spread, forms & 7, stripe, near, context, slope, size), place

    def header(self):
        forms = self.shape | len(self.near) << 3 | bool(self.context) << 5
        data = struct.pack("<Bb", forms | 128, self.centre) if self.centre else bytes([forms])
        data += bytes([self.reach, self.spread]) + varint(self.stripe // 16 - 1)
        for distance, weight in self.near:
            data += varint(distance) + struct.pack("<b", weight)
        if self.context:
            distance, shift, weight = self.context
            data += bytes([self.slope, self.size]) + varint(distance) + bytes([shift | weight << 4])
        return data

    def back(self, distance, values, otherwise):
        """What stands `distance` before the next weight, unless the stripes hide it."""
        i = len(self.levels)
        if i < distance or i % self.stripe < distance % self.stripe:
            return otherwise
        return values[i - distance]

    def expect(self):
        """Look at what there is before the next weight."""
        e = 8
        for distance, weight in self.near:
            e += weight * (self.back(distance, self.levels, self.centre) - self.centre)
        self.expected = e >> 4
        self.nearest = (self.expected + 2) >> 2
        self.exponent = self.spread
        if self.context:
            distance, _, weight = self.context
            self.before = self.back(distance, self.averages, self.first)
            size = (16 - weight) * self.first + weight * self.before >> 4
            octaves = min(max(half_octaves(size) - half_octaves(self.first), -8), 7)
            self.exponent = min(max(self.spread + self.slope * octaves, 0), 127)

    def below(self, residual):
        """The frequencies before a residual."""
        if residual == -self.reach:
            return 0
        if residual == self.reach + 1:
            return 8192
        b = 4 * residual - 2 - (self.expected - 4 * self.nearest)
        u = abs(b) * MANTISSAS[self.exponent % 8] >> (4 + self.exponent // 8)
        k = u >> 4
        share = 32768
        if k < 512:
            share = self.shares[k] + ((self.shares[k + 1] - self.shares[k]) * (u & 15) >> 4)
        share = 32768 + (share if b > 0 else -share)
        return residual + self.reach + (share * (8191 - 2 * self.reach) >> 16)

    def residual(self, level):
        return (level - self.centre - self.nearest + 128) % 256 - 128

    def take(self, residual):
        level = (self.centre + self.nearest + residual + 128) % 256 - 128
        size = abs(4 * (self.nearest + residual) - self.expected) << 6
        if self.context:
            self.averages.append(self.before + ((size - self.before) >> self.context[1]))
        self.levels.append(level)


def encode(model, levels):
    """The body of these levels: the decoder's steps backwards."""
    starts, frequencies = array("H"), array("H")
    for level in levels:
        model.expect()
        residual = model.residual(level)
        starts.append(model.below(residual))
        frequencies.append(model.below(residual + 1) - starts[-1])
        model.take(residual)
    stripes = []
    for start in range(0, len(levels), model.stripe):
        state, words = 0, []
        for i in range(min(start + model.stripe, len(levels)) - 1, start - 1, -1):
            frequency = frequencies[i]
            if state >= frequency << 17:
                words.append(state & 0xFFFF)
                state >>= 16
            state = (state // frequency << 13) + starts[i] + state % frequency
        while state > 255:
            words.append(state & 0xFFFF)
            state >>= 16
        words.reverse()
        stripes.append((bytes([state]) if state else b"") + struct.pack(f"<{len(words)}H", *words))
    code = b"".join(stripes)
    sizes = b"".join([signed(len(each) - len(code) // len(stripes)) for each in stripes[:-1]])
    return model.header() + sizes + code


def decode(body, count):
    """The levels of a body that keeps to the format; AssertionError otherwise."""
    if body[0] == 96:
        assert len(body) == 2
        return list(struct.unpack_from("<b", body, 1)) * count
    model, place = Model.parse(body)
    stripes, less = -(-count // model.stripe), []
    for _ in range(stripes - 1):
        value = shift = 0
        while body[place] > 127:
            value |= (body[place] & 127) << shift
            shift += 7
            place += 1
        value |= body[place] << shift
        place += 1
        less.append(-(value + 1) // 2 if value % 2 else value // 2)
    sizes = [(len(body) - place) // stripes + each for each in less]
    sizes.append(len(body) - place - sum(sizes))
    state, end = 0, place

    def word():
        nonlocal place
        place += 2
        return struct.unpack_from("<H", body, place - 2)[0]

    for i in range(count):
        if i % model.stripe == 0:
            assert state == 0
            assert place == end
            end += sizes[i // model.stripe]
            state = 0
            if sizes[i // model.stripe] % 2:
                state = body[place]
                place += 1
            while state < 1 << 14 and place < end:
                state = state << 16 | word()
        model.expect()
        slot, residual = state & 8191, -model.reach
        while model.below(residual + 1) <= slot:
            residual += 1
        below = model.below(residual)
        state = (model.below(residual + 1) - below) * (state >> 13) + slot - below
        if state < 1 << 14 and place < end:
            state = state << 16 | word()
        model.take(residual)
    assert state == 0
    assert place == len(body)
    return list(model.levels)
