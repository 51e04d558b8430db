"""Packs: the manifest's rules, files and slots, and whatever was tampered with is refused."""

import os
import struct

from regrow.errors import PackError, SignatureError
from regrow.pack import ROLE_GRAPH, ROLE_WEIGHTS, USE_EXECUTOR, USE_LITERT, Head, Manifest, open_pack
from regrow.weights import Weights
from support import FOLDER, golden, hexadecimal, raises, read, reader, write

HASH = bytes(range(32))
GRAPH = (1, 2, 0, 100, HASH)
SKELETON = (2, 1, 0, 200, HASH)


def manifest(*parts, name=b"kws", version=7, targets=2, arena=5000, end=b""):
    data = bytes([len(name)]) + name + struct.pack("<IBIH", version, targets, arena, len(parts))
    for part in parts:
        data += struct.pack("<BBHI", *part[:4]) + part[4]
    return data + end


def refuses(*parts, **fields):
    return raises(PackError, Manifest.parse, manifest(*parts, **fields))


def test_manifest():
    parsed = Manifest.parse(manifest(GRAPH, (3, 2, 0xFFFE, 0xFFFFFFFF, HASH)))
    assert (parsed.name, parsed.version, parsed.targets, parsed.arena) == ("kws", 7, 2, 5000)
    parts = [(part.role, part.use, part.number, part.size, part.sha256) for part in parsed.parts]
    assert parts == [GRAPH, (3, 2, 0xFFFE, 0xFFFFFFFF, HASH)]


def test_manifest_fields():
    assert not refuses(GRAPH, SKELETON, targets=3, version=0x7FFFFFFF, name=b"Az09._-" * 9 + b"x")
    assert not refuses(SKELETON, targets=1, arena=0)
    for name in (b"", b".a", b"a b", b"a/b", b"\xff", b"a" * 65):
        assert refuses(GRAPH, name=name)
    assert refuses(GRAPH, version=0)
    assert refuses(GRAPH, version=1 << 31)
    assert refuses(GRAPH, targets=0)
    assert refuses(GRAPH, targets=4)
    assert refuses(SKELETON, targets=1, arena=1)
    assert refuses(GRAPH, end=b"\x00")


def test_manifest_parts():
    weights = (3, 2, 1, 9, HASH)
    assert not refuses(GRAPH, weights, (3, 2, 2, 9, HASH), (4, 2, 0, 9, HASH))
    assert not refuses(GRAPH, SKELETON, (3, 2, 1, 9, HASH), (3, 1, 1, 9, HASH), targets=3)
    assert refuses()
    assert refuses(GRAPH, targets=3)
    assert refuses(SKELETON, targets=3)
    assert refuses(GRAPH, GRAPH)
    assert refuses(GRAPH, weights, weights)
    assert refuses(GRAPH, SKELETON, (3, 3, 1, 9, HASH), (3, 1, 1, 9, HASH), targets=3)
    assert refuses(GRAPH, (0, 2, 0, 9, HASH))
    assert refuses(GRAPH, (5, 2, 0, 9, HASH))
    assert refuses(GRAPH, (3, 0, 0, 9, HASH))
    assert refuses(GRAPH, (3, 1, 0, 9, HASH))
    assert refuses(GRAPH, (3, 4, 0, 9, HASH))
    assert refuses(GRAPH, (4, 2, 1, 9, HASH))
    assert refuses((1, 3, 0, 100, HASH), SKELETON, targets=3)


def test_manifest_cut_anywhere():
    data = manifest(GRAPH, (3, 2, 1, 9, HASH))
    for end in range(len(data)):
        assert raises(PackError, Manifest.parse, data[:end]), end


def test_head():
    start = b"RGP1" + bytes(96)
    head = Head.parse(reader(start + struct.pack("<I", 3) + b"abcdef"))
    assert (head.manifest, len(head.data)) == (b"abc", 107)
    assert raises(PackError, Head.parse, reader(b"RGP2" + bytes(200)))
    assert raises(PackError, Head.parse, reader(start + struct.pack("<I", 65537)))
    for size in (0, 3, 4, 99, 103, 106):
        assert raises(PackError, Head.parse, reader(head.data[:size])), size


def test_trust():
    head = open_pack(golden("raw.rgp")).head
    open_pack(golden("raw.rgp"), [bytes(32), head.signer]).close()
    assert raises(SignatureError, open_pack, golden("raw.rgp"), [])
    assert raises(SignatureError, open_pack, golden("raw.rgp"), [bytes(32)])


def test_tampered_manifest_and_signature():
    data = read(golden("raw.rgp"))
    signer = data[4:36]
    for place in (36, 67, 68, 99, 104, 105, 150):
        changed = bytearray(data)
        changed[place] ^= 1
        assert raises(SignatureError, open_pack, write("tampered.rgp", changed), [signer]), place


def test_tampered_part():
    data = bytearray(read(golden("raw.rgp")))
    data[-1] ^= 1
    pack = open_pack(write("tampered.rgp", data))
    last = list(pack.manifest.parts)[-1]
    assert raises(PackError, pack.reader, last)
    assert raises(PackError, pack.verify, last)
    pack.reader(pack.part(ROLE_GRAPH, USE_EXECUTOR))
    pack.close()


def test_length():
    data = read(golden("raw.rgp"))
    for changed in (b"", data[:50], data[:300], data[:-1], data + b"\x00"):
        assert raises(PackError, open_pack, write("length.rgp", changed))
    assert raises(PackError, open_pack, FOLDER + "/absent.rgp")


def test_part_that_is_not_there():
    pack = open_pack(golden("grid.rgp"))
    assert raises(PackError, pack.part, ROLE_WEIGHTS, USE_EXECUTOR, 999)
    assert raises(PackError, pack.part, ROLE_GRAPH, USE_LITERT)
    pack.close()


def test_slot():
    """A head in a slot's folder, its parts by hash beside it."""
    file = open_pack(golden("raw.rgp"))
    for folder in ("/A", "/parts"):
        os.mkdir(FOLDER + folder)
    write("A/head", file.head.data)
    for part in file.manifest.parts:
        write("parts/" + hexadecimal(part.sha256), file.reader(part).read(part.size))
    slot = open_pack(FOLDER + "/A", [file.head.signer])
    part = slot.part(ROLE_WEIGHTS, USE_EXECUTOR, 0)
    assert Weights(slot.reader(part)).count == 256
    assert slot.reader(part).read(part.size) == file.reader(part).read(part.size)
    slot.close()

    name = "parts/" + hexadecimal(part.sha256)
    content = file.reader(part).read(part.size)
    for changed in (content[:-1], content[:-1] + b"\x55", b""):
        write(name, changed)
        slot = open_pack(FOLDER + "/A")
        assert raises(PackError, slot.reader, part)
        slot.close()
    os.remove(FOLDER + "/" + name)
    slot = open_pack(FOLDER + "/A")
    assert raises(PackError, slot.reader, part)
    slot.close()
    file.close()
    assert raises(PackError, open_pack, FOLDER + "/parts")
