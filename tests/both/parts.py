"""Weights parts written by the letter of pack-format.md, and what they grow, read in many tile sizes."""

# ruff: noqa: PLR0917 (a part's fields, in their order)
from array import array

from regrow.errors import PackError
from regrow.weights import Weights
from support import raises, reader

TILES = (1, 2, 3, 1, 50, 7, 129, 256, 300, 1000)


def varint(value):
    low = []
    while value > 127:
        low.append(value & 127 | 128)
        value >>= 7
    return bytes(low) + bytes([value])


def head(codec, dtype, form, count, channels, inner):
    data = bytes([codec | dtype << 2 | form << 4]) + varint(count) + varint(channels)
    return data + varint(inner) if channels > 1 else data


def part(codec, dtype, scales, body, count, inner=1):
    header = head(codec, dtype, 2 if scales else 0, count, max(1, len(scales)), inner)
    return header + as_float32(scales) + body


def tiles(count):
    """Sizes that add up to count, so that every boundary inside a codec is met at some place."""
    turn = 0
    while count:
        size = min(count, TILES[turn % len(TILES)])
        yield size
        count -= size
        turn += 1


def levels(weights):
    grown = b""
    for size in tiles(weights.count):
        tile = bytearray(size)
        weights.read_levels(tile)
        grown += tile
    return grown


def floats(weights):
    grown = b""
    for size in tiles(weights.count):
        tile = array("f", [0.0] * size)
        weights.read_floats(tile)
        grown += bytes(tile)
    return grown


def as_float32(values):
    rounded = array("f")
    for value in values:
        rounded.append(value)
    return bytes(rounded)


def signed(byte):
    return (byte ^ 0x80) - 0x80


def check(data, expected_levels, expected_floats):
    """Both forms, twice with a rewind between."""
    weights = Weights(reader(data))
    for _ in range(2):
        assert levels(weights) == expected_levels
        weights.rewind()
        assert floats(weights) == expected_floats
        weights.rewind()


def refuses(data):
    """Bad bytes are a PackError when the part is opened, or while its levels are read."""
    return raises(PackError, lambda: levels(Weights(reader(data))))


def grow(seed, i):
    left = (i >> 16) ^ (seed >> 16)
    right = (i & 0xFFFF) ^ (seed & 0xFFFF)
    for mask, factor in ((0x9E37, 0x2C1B), (0x79B9, 0x3A53), (0x7F4A, 0x1F35), (0x7C15, 0x2E47)):
        left, right = right, left ^ ((((right ^ mask) * factor) >> 7) & 0xFFFF)
    return right
