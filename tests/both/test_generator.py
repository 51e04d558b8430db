"""The generator gives the numbers of pack-format.md everywhere."""

from regrow.generator import grow

try:
    import numpy as np

    def number(seed, i):
        return int(grow(seed, np.array([i]))[0])

except ImportError:
    number = grow


def by_the_book(seed, i):
    left = (i >> 16) ^ (seed >> 16)
    right = (i & 0xFFFF) ^ (seed & 0xFFFF)
    for mask, factor in ((0x9E37, 0x2C1B), (0x79B9, 0x3A53), (0x7F4A, 0x1F35), (0x7C15, 0x2E47)):
        left, right = right, left ^ ((((right ^ mask) * factor) >> 7) & 0xFFFF)
    return right


def test_fixed_numbers():
    assert [number(0, 0), number(1, 5), number(0xDEADBEEF, 100000)] == [30086, 57322, 2428]


def test_every_corner():
    for seed in (0, 1, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        for i in (0, 1, 0xFFFF, 0x10000, 0x3FFFFFFF, 0x40000000, 0x7FFFFFFF):
            assert number(seed, i) == by_the_book(seed, i)
