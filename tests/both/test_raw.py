"""Codec raw."""

import struct
from array import array

from parts import as_float32, check, floats, part, signed
from regrow.errors import PackError
from regrow.weights import Weights
from support import raises, reader


def test_raw_levels_by_channel():
    scales = [0.5, 0.1, 3e-39, 1.5e30, 1e-45]
    body = bytes([i * 37 & 255 for i in range(700)])
    rounded = array("f", scales)
    expected = as_float32(signed(body[i]) * rounded[i // 3 % 5] for i in range(700))
    check(part(0, 0, scales, body, 700, inner=3), body, expected)


def test_raw_levels_with_one_scale():
    scale = array("f", [0.007])[0]
    body = bytes(range(256))
    check(part(0, 0, [scale], body, 256), body, as_float32(signed(i) * scale for i in range(256)))


def test_raw_product_beyond_float32_is_infinite():
    data = part(0, 0, [3e38], b"\x01\x02\x80\x00", 4)
    first, *rest = struct.unpack("<4I", floats(Weights(reader(data))))
    assert first == struct.unpack("<I", struct.pack("<f", 3e38))[0]
    assert rest == [0x7F800000, 0xFF800000, 0]


def test_raw_floats():
    body = as_float32(0.1 * i for i in range(500))
    weights = Weights(reader(part(0, 1, [], body, 500)))
    assert floats(weights) == body
    weights.rewind()
    assert raises(PackError, weights.read_levels, bytearray(1))


def test_raw_halves():
    """Zeros, subnormals, normals, infinities of both signs."""
    bits = [0, 1, 0x3FF, 0x400, 0x3C00, 0x3555, 0x7BFF, 0x7C00]
    values = [0, 2**-24, 1023 * 2**-24, 2**-14, 1.0, 0x555 * 2**-12, 65504.0, float("inf")]
    body = struct.pack("<16H", *(bits + [half | 0x8000 for half in bits]))
    expected = as_float32(values + [-value for value in values])
    expected = expected[:35] + b"\x80" + expected[36:]  # an int's zero has no sign
    assert floats(Weights(reader(part(0, 2, [], body, 16)))) == expected
