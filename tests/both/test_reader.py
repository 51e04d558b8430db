"""Reader: every field, and never a byte beyond the part."""

from io import BytesIO

from regrow.errors import PackError
from regrow.reader import Reader
from support import raises, reader


def test_fields():
    data = b"\xff\xfe\xff\xfd\xff\xff\xff\x80\x00\x80\x00\x00\x00\x80\x00\x00\xc0\xbf\xac\x02"
    fields = reader(data)
    assert (fields.u8(), fields.u16(), fields.u32()) == (255, 0xFFFE, 0xFFFFFFFD)
    assert (fields.i8(), fields.i16(), fields.i32()) == (-128, -32768, -(1 << 31))
    assert fields.f32() == -1.5
    assert fields.varint() == 300
    assert fields.left == 0


def test_stays_inside_its_stretch():
    inside = Reader(BytesIO(b"abcdef"), 2, 3)
    assert inside.read(2) == b"cd"
    assert inside.left == 1
    assert raises(PackError, inside.u16)
    assert inside.u8() == ord("e")
    assert raises(PackError, inside.u8)
    assert raises(PackError, inside.skip, 1)
    assert raises(PackError, inside.read, 1 << 40)
    assert raises(PackError, inside.readinto, memoryview(bytearray(1)))
    inside.seek(1)
    assert inside.read(2) == b"de"
    assert raises(PackError, inside.seek, 4)


def test_two_readers_share_a_file():
    file = BytesIO(b"abcdef")
    front, back = Reader(file, 0, 3), Reader(file, 3, 3)
    assert [front.read(1), back.read(2), front.read(2)] == [b"a", b"de", b"bc"]


def test_file_shorter_than_the_part():
    assert raises(PackError, Reader(BytesIO(b"abc"), 1, 4).u32)
    assert raises(PackError, Reader(BytesIO(b"abc"), 1, 4).read, 3)


def test_readinto():
    buffer = bytearray(4)
    fields = reader(b"abcdefg")
    fields.readinto(memoryview(buffer))
    assert buffer == b"abcd"
    assert fields.left == 3


def test_varint_limits():
    assert reader(b"\xff\xff\xff\xff\x07").varint() == (1 << 31) - 1
    assert reader(b"\x80\x80\x80\x80\x00").varint() == 0
    assert raises(PackError, reader(b"\x80\x80\x80\x80\x08").varint)
    assert raises(PackError, reader(b"\x80\x80\x80\x80\x80\x00").varint)
    assert raises(PackError, reader(b"\x80\x80").varint)
