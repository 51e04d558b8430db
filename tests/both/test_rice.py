"""Lists of integers by the letter of pack-format.md, and the scales that are written so."""

from gridplain import signed
from parts import as_float32, check, head, refuses
from regrow import rice
from regrow.errors import PackError
from support import raises, reader


def codes(values, k):
    bits = ""
    for value in values:
        z = 2 * value if value >= 0 else -2 * value - 1
        low, count = ("1" * (z >> k) + "0", k) if z >> k < 16 else ("1" * 16, 30)
        bits += low + "".join(str(z >> i & 1) for i in range(count))
    bits += "0" * (-len(bits) % 8)
    data = [sum(int(bits[at + i]) << i for i in range(8)) for at in range(0, len(bits), 8)]
    return bytes([k]) + bytes(data)


def check_list(values, k):
    source = reader(codes(values, k) + b"\x77")
    assert read(source, len(values)) == values
    assert source.left == 1


def test_rice():
    for k in (0, 1, 3, 8, 24):
        check_list([0], k)
        check_list([i * i * (-1) ** i // 20 for i in range(50)], k)
        check_list([(1 << 29) - 1, -(1 << 29), 0, 7, -8, 1 << 28], k)


def read(source, count):
    return list(rice.read(source, count))


def test_rice_refuses():
    data = codes([5, -300, 70000], 3)
    for end in range(1, len(data)):
        assert raises(PackError, read, reader(data[:end]), 3), end
    assert raises(PackError, read, reader(b"\x19" + data[1:]), 3)
    assert raises(PackError, read, reader(b"\x00\x00\x00"), 17)
    assert raises(PackError, read, reader(b"\x00\x00\x00"), 1 << 30)


def octaves(shift, base, offsets):
    start = head(0, 0, 3, 2 * len(offsets), len(offsets), 2)
    return start + bytes([shift]) + signed(base) + codes(offsets, 2)


def check_octaves(shift, base, offsets):
    expected = b""
    for offset in offsets:
        e = base + offset << shift
        mantissa = int(2 ** (23 + (e >> 5) % 32 / 32) + 0.5) * int(2 ** (23 + e % 32 / 1024) + 0.5) >> 23
        scale = mantissa * 2.0 ** ((e >> 10) - 23)
        expected += as_float32([scale, -scale])
    levels = b"\x01\xff" * len(offsets)
    check(octaves(shift, base, offsets) + levels, levels, expected)


def test_scales_in_octaves():
    offsets = [0, 16, -3, 7, 33, -20, 5, 15]
    levels = b"\x01\xff" * 8
    for base in (-129004, -1000, 0, 131038):
        check_octaves(0, base, offsets)
    check_octaves(6, 77, offsets)
    check_octaves(6, -1996, offsets)
    check_octaves(10, 0, [0, 127, -126])
    check_octaves(0, 0, list(range(0, 2048, 27)))
    assert refuses(octaves(0, -129005, offsets) + levels)
    assert refuses(octaves(0, 131039, offsets) + levels)
    assert refuses(octaves(11, 0, offsets) + levels)
    assert refuses(octaves(0, 0, offsets)[:-1])
