"""Codec grid decodes what an encoder written by the letter of pack-format.md wrote."""

from array import array

import regrow.codecs.grid  # noqa: F401 (first, while the heap is one piece)
from gridplain import Model, encode
from parts import as_float32, check, grow, part, refuses


def draw(count, symbols, lowest):
    """Levels of which low symbols are the more frequent."""
    return array("h", (lowest + grow(3, i) * grow(4, i) * symbols // (1 << 32) for i in range(count)))


def waves(count, height):
    """Levels that are like those before and those 50 before, and whose size changes."""
    return array("h", (i % 50 * (i % 7) * height // 300 - height // 2 + grow(5, i) % 3 for i in range(count)))


def check_grid(model, values):
    data = part(2, 0, [0.25], encode(model, values), len(values))
    check(data, bytes(value & 255 for value in values), as_float32(value / 4 for value in values))


def test_grid_stripes():
    values = draw(500, 6, -3)
    for stripe in (16, 32, 96, 496, 512, 65520):
        check_grid(Model(0, 12, 40, 5, stripe), values)


def test_grid_shapes():
    values = draw(200, 4, 124)
    for shape in range(8):
        for spread in (0, 21, 127):
            check_grid(Model(125, 3, spread, shape, 96), values)


def test_grid_neighbours():
    values = waves(400, 60)
    for near in ([(1, 64)], [(50, 63), (1, 40)], [(3, -128), (399, 127), (20480, 5)]):
        for stripe in (32, 112, 400):
            check_grid(Model(-2, 128, 70, 6, stripe, near), values)


def test_grid_context():
    values = waves(400, 40)
    for context in ((1, 3, 14), (50, 1, 5), (300, 15, 15), (7, 0, 0)):
        for stripe in (32, 112, 400):
            check_grid(Model(3, 100, 50, 4, stripe, [(50, 33)], context, 3, 88), values)


def test_grid_many_stripes():
    """Those that a host decodes in lock-step, the last one short."""
    values = waves(500, 30)
    near = [(50, 30), (1, 20), (201, 9)]
    for context in ((1, 2, 9), (200, 1, 6)):
        check_grid(Model(0, 120, 45, 6, 48, near, context, 4, 80), values)
        check_grid(Model(0, 120, 45, 6, 16, near, context, 4, 80), values)


def test_grid_all_levels():
    check_grid(Model(-9, 128, 80, 0, 64), [i * 77 % 256 - 128 for i in range(300)])


def test_grid_levels_wrap():
    """What the model expects may lie outside of int8: levels are its sum with the residual modulo 256."""
    check_grid(Model(100, 128, 60, 3, 112, [(1, 127)]), [(-1) ** i * 100 for i in range(120)])


def test_grid_one_level():
    check(part(2, 0, [0.25], b"\x60\x85", 300), bytes([0x85] * 300), as_float32([-123 / 4] * 300))
    assert refuses(part(2, 0, [0.25], b"\x60", 300))
    assert refuses(part(2, 0, [0.25], b"\x60\x85\x00", 300))
    check_grid(Model(-128, 1, 0, 7, 16), [-128])


def test_grid_refuses_models():
    values = draw(100, 4, 0)
    near, context = [(5, 9)], (7, 3, 5)
    body = encode(Model(-1, 20, 40, 5, 48, near, context, 3, 64), values)

    def bad(place, *new):
        return refuses(part(2, 0, [1.0], body[:place] + bytes(new) + body[place + len(new) :], len(values)))

    # forms, centre, reach, spread, stripe; distance, weight; slope, size; distance, weight and shift
    assert not bad(1, 255)
    for place, byte in ((0, 0x60), (0, 0xED), (0, 0xCD), (2, 0), (2, 129), (3, 128), (5, 0)):
        assert bad(place, byte), (place, byte)
    for place, byte in ((7, 16), (8, 121), (9, 0)):
        assert bad(place, byte), (place, byte)
    assert bad(4, 0xFF, 0x1F)


def test_grid_refuses_code():
    values = draw(600, 4, 0)
    model = (0, 5, 36, 5, 304)
    body = encode(Model(*model), values)
    code = 5

    def bad(data, count=600):
        return refuses(part(2, 0, [1.0], data, count))

    assert not bad(body)
    assert bad(body[:code] + bytes(5) + body[code + 5 :])
    for flip in (1, 2, 63):
        assert bad(body[: code - 1] + bytes([body[code - 1] ^ flip]) + body[code:]), flip
    for cut in (1, 2, 3, 10, len(body) - 20, len(body) - 7, len(body) - 6):
        assert bad(body[: len(body) - cut]), cut
    assert bad(body + b"\x00\x00")
    for count in (609, 599, 304, 2, 100000):
        assert bad(body, count), count
    assert bad(body[:4] + b"\xff\xff\xff\xff\x07" + body[5:])
    far = encode(Model(0, 5, 36, 5, 304, [(20480, 1)]), values)
    assert not bad(far)
    assert bad(far.replace(b"\x80\xa0\x01", b"\x81\xa0\x01"))
