"""The header of a weights part, and reading beyond its end."""

# ruff: noqa: PLR0917 (a part's fields, in their order)
from parts import head, part, refuses
from regrow.errors import PackError
from regrow.weights import Weights
from support import raises, reader


def test_header_refuses():
    def header(codec, dtype, form, count, channels, inner, rest):
        return refuses(head(codec, dtype, form, count, channels, inner) + rest)

    one = b"\x00\x00\x80\x3f"
    assert not header(0, 0, 2, 1, 1, 1, one + b"\x05")
    assert header(3, 0, 2, 1, 1, 1, one + b"\x05")
    assert header(0, 3, 2, 1, 1, 1, one + b"\x05")
    assert header(0, 0, 4, 1, 1, 1, one + b"\x05")
    assert header(0, 0, 2, 0, 1, 1, one)
    assert header(0, 0, 2, 1, 0, 1, one + b"\x05")
    assert header(0, 0, 2, 2, 2, 0, one + one + b"\x05\x05")
    assert header(0, 0, 0, 1, 1, 1, b"\x05")
    assert header(0, 1, 2, 1, 1, 1, one + one)
    assert header(0, 0, 2, 2, 1, 1, one + b"\x05")
    assert header(0, 0, 2, 1, 1, 1, one + b"\x05\x05")
    assert header(0, 0, 2, 1, 65535, 1, one)
    assert header(2, 1, 0, 1, 1, 1, one)
    for scale in (b"\x00\x00\x00\x00", b"\x00\x00\x80\xbf", b"\x00\x00\x80\x7f", b"\x00\x00\xc0\x7f"):
        assert header(0, 0, 2, 1, 1, 1, scale + b"\x05")
        assert header(0, 0, 1, 1, 1, 1, scale[2:] + b"\x05")
    assert not header(0, 0, 1, 1, 65535, 1, one[2:] + b"\x05")
    assert header(0, 0, 1, 1, 65536, 1, one[2:] + b"\x05")
    assert refuses(b"\x20\x80\x80\x80\x80\x08\x01" + one + b"\x05")
    assert refuses(b"")
    assert refuses(b"\x20\x80")


def test_no_more_than_there_are():
    weights = Weights(reader(part(0, 0, [1.0], b"abc", 3)))
    weights.read_levels(bytearray(2))
    assert raises(PackError, weights.read_levels, bytearray(2))
