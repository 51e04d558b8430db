"""Codec central grows the weights of pack-format.md, bit by bit."""

# ruff: noqa: PLR0917 (a part's fields, in their order)
import struct

from parts import as_float32, check, grow, part, refuses
from regrow.weights import Weights
from support import reader


def central(unit, restoration, exponent, shift, bias, seed, batch, records, count):
    body = bytearray(struct.pack("<BBbBhII", unit, restoration, exponent, shift, bias, seed, batch))
    for record in records:
        body += struct.pack("<hH"[: 3 - restoration], *record)
    return part(1, 0, [], body, count)


def check_central(unit, exponent, shift, bias, seed, batch, records, count):
    restoration = 2 - len(records[0])
    k = []
    for i in range(count):
        mean, deviation = (records[i // batch] + (0,))[:2]
        k.append(((mean + bias) << 8) + ((deviation * (grow(seed, i) - 32768)) >> 7))
    expected = bytes([max(-127, min(127, (value + (1 << shift - 1)) >> shift)) & 255 for value in k])
    data = central(unit, restoration, exponent, shift, bias, seed, batch, records, count)
    check(data, expected, as_float32(value * 2.0**exponent for value in k))


def test_central_uniform():
    check_central(1, -30, 9, 3, 0xDEADBEEF, 500, [(-12, 300)], 500)
    check_central(0, -120, 17, 0, 0, 500, [(32767, 32767)], 500)
    check_central(0, 80, 24, -1, 0xFFFFFFFF, 500, [(-32767, 32767)], 500)


def test_central_batches():
    records = [((37 * i) % 999 - 500, (71 * i) % 800) for i in range(300)]
    check_central(2, -25, 10, -7, 5, 1, records, 300)
    check_central(2, -25, 10, -7, 5, 3, records[:134], 400)
    check_central(2, -25, 10, -7, 5, 129, records[:4], 500)


def test_central_means():
    records = [((7001 * i) % 65536 - 32768,) for i in range(300)]
    check_central(2, -40, 17, 0, 9, 1, records, 300)
    check_central(2, -40, 1, 0, 9, 2, records[:200], 399)


def test_central_scale():
    weights = Weights(reader(central(1, 1, -30, 9, 0, 0, 2, [(1,)], 2)))
    assert weights.scales[0] in (2.0**-21, (127 - 21) << 23)  # a board keeps the bits


def test_central_refuses():
    good = (1, 0, -30, 9, 0, 0, 10, [(0, 5)], 10)
    assert not refuses(central(*good))
    changes = (0, 3), (1, 2), (2, -121), (2, 81), (3, 0), (3, 25), (6, 0), (6, 11), (6, 9), (7, [])
    for place, value in changes:
        bad = list(good)
        bad[place] = value
        if place == 1:
            bad[7] = [()]
        assert refuses(central(*bad)), (place, value)
    assert refuses(central(*good[:7], [(0, 5), (0, 5)], 10))
    assert refuses(central(*good[:7], [(0, 32768)], 10))
    assert refuses(central(1, 1, -30, 9, 1, 0, 10, [(32767,)], 10))
    assert refuses(central(1, 1, -30, 9, -1, 0, 10, [(-32768,)], 10))
