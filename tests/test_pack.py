"""Packs: writing and opening them, trust, and what is refused."""

import struct
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from golden.make import GRAPH, SKELETON
from regrow.errors import InputError, PackError, SignatureError
from regrow.pack import (
    ROLE_GRAPH,
    ROLE_PROBE,
    ROLE_SKELETON,
    ROLE_WEIGHTS,
    USE_BOTH,
    USE_EXECUTOR,
    USE_LITERT,
    Head,
    Manifest,
    Part,
    open_pack,
    signed_message,
)
from regrow_host import keys
from regrow_host.packing import NewPart, build_pack

KEY = Ed25519PrivateKey.generate()
PARTS = [
    NewPart(ROLE_GRAPH, USE_EXECUTOR, 0, GRAPH),
    NewPart(ROLE_SKELETON, USE_LITERT, 0, SKELETON),
    NewPart(ROLE_WEIGHTS, USE_EXECUTOR, 1, b"one" * 3000),
    NewPart(ROLE_WEIGHTS, USE_BOTH, 0, b"zero"),
    NewPart(ROLE_WEIGHTS, USE_LITERT, 1, b"one more"),
    NewPart(ROLE_PROBE, USE_BOTH, 0, b""),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    build_pack(tmp_path / "m.rgp", "kws-2.b", 7, PARTS, arena=1234, key=KEY)
    return tmp_path / "m.rgp"


@pytest.fixture
def slot(path: Path) -> Path:
    """The same pack as a device keeps it."""
    folder = path.parent / "A"
    folder.mkdir()
    (path.parent / "parts").mkdir()
    with open_pack(path) as pack:
        (folder / "head").write_bytes(pack.head.data)
    for part in PARTS:
        (path.parent / "parts" / sha256(part.data).hexdigest()).write_bytes(part.data)
    return folder


@pytest.mark.parametrize("kind", ["path", "slot"])
def test_gives_back_what_was_packed(kind: str, request: pytest.FixtureRequest) -> None:
    with open_pack(request.getfixturevalue(kind), [keys.public_key(KEY)]) as pack:
        manifest = pack.manifest
        assert (manifest.name, manifest.version, manifest.targets, manifest.arena) == ("kws-2.b", 7, 3, 1234)
        for part in PARTS:
            reader = pack.reader(pack.part(part.role, part.use, part.number))
            assert reader.read(reader.left) == part.data
        assert [part.number for part in pack.weights_parts(USE_EXECUTOR)] == [0, 1]
        with pytest.raises(PackError, match="no weights 2 for the executor"):
            pack.part(ROLE_WEIGHTS, USE_EXECUTOR, 2)


def test_pack_id_is_the_hash_of_the_head(path: Path) -> None:
    data = path.read_bytes()
    with open_pack(path) as pack:
        size = len(data) - sum(len(part.data) for part in PARTS)
        assert pack.head.data == data[:size]
        assert pack.head.id == sha256(data[:size]).digest()


def test_unknown_signer_is_named(path: Path) -> None:
    name = keys.public_key(KEY)[:8].hex()
    with pytest.raises(SignatureError, match=name):
        open_pack(path, [bytes(32)])
    with pytest.raises(SignatureError, match=name):
        open_pack(path, [])


def verify_all(path: Path) -> None:
    with open_pack(path, [keys.public_key(KEY)]) as pack:
        for part in pack.manifest.parts:
            pack.verify(part)


def test_every_altered_byte_is_found(path: Path) -> None:
    data = path.read_bytes()
    for position in [*range(0, 600, 7), len(data) - 1]:
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(PackError):
            verify_all(path)


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"x", lambda d: d[:80], lambda d: b""])
def test_wrong_size_is_refused(path: Path, change: object) -> None:
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(PackError):
        open_pack(path)


def test_missing_files_are_pack_errors(slot: Path) -> None:
    with pytest.raises(PackError, match="cannot read"):
        open_pack(slot / "nothing.rgp")
    (slot.parent / "parts" / sha256(b"zero").hexdigest()).unlink()
    with open_pack(slot) as pack, pytest.raises(PackError, match="cannot read the weights 0"):
        pack.reader(pack.part(ROLE_WEIGHTS, USE_BOTH))
    (slot / "head").write_bytes((slot / "head").read_bytes() + b"x")
    with pytest.raises(PackError, match="follow the head"):
        open_pack(slot)


def test_wrong_signature_in_a_well_formed_head() -> None:
    manifest = b"x"
    head = Head(keys.public_key(KEY), KEY.sign(signed_message(b"y")), manifest)
    with pytest.raises(SignatureError):
        head.verify()


def manifest_bytes(parts: list[Part], name: bytes = b"m", version: int = 1, targets: int = 2) -> bytes:
    data = bytes([len(name)]) + name + struct.pack("<IBIH", version, targets, 0, len(parts))
    for part in parts:
        data += struct.pack("<BBHI", part.role, part.use, part.number, part.size) + part.sha256
    return data


G = Part(ROLE_GRAPH, 2, 0, 1, bytes(32))
W = Part(ROLE_WEIGHTS, 2, 3, 1, bytes(32))


def test_manifest_is_accepted() -> None:
    assert Manifest.parse(manifest_bytes([G, W], b"a" * 64, 2**31 - 1)).parts == (G, W)


@pytest.mark.parametrize(
    "data",
    [
        manifest_bytes([G], b""),
        manifest_bytes([G], b".m"),
        manifest_bytes([G], b"m/n"),
        manifest_bytes([G], b"m\n"),
        manifest_bytes([G], "é".encode()),
        manifest_bytes([G], b"a" * 65),
        manifest_bytes([G], version=0),
        manifest_bytes([G], version=2**31),
        manifest_bytes([G], targets=0),
        manifest_bytes([G], targets=4),
        manifest_bytes([G], targets=3),
        manifest_bytes([]),
        manifest_bytes([W]),
        manifest_bytes([G, G]),
        manifest_bytes([G, W, W]),
        manifest_bytes([G, Part(5, 2, 0, 1, bytes(32))]),
        manifest_bytes([G, Part(0, 2, 0, 1, bytes(32))]),
        manifest_bytes([G, Part(ROLE_PROBE, 2, 1, 1, bytes(32))]),
        manifest_bytes([G, Part(ROLE_PROBE, 0, 0, 1, bytes(32))]),
        manifest_bytes([G, Part(ROLE_PROBE, 3, 0, 1, bytes(32))]),
        manifest_bytes([G, Part(ROLE_SKELETON, 2, 0, 1, bytes(32))]),
        manifest_bytes([Part(ROLE_GRAPH, 1, 0, 1, bytes(32))], targets=1),
        manifest_bytes([G])[:-1],
        manifest_bytes([G]) + b"x",
        manifest_bytes([Part(ROLE_SKELETON, 1, 0, 1, bytes(32))], targets=1).replace(
            b"\1\0\0\0\1\0\0\0\0", b"\1\0\0\0\1\1\0\0\0"
        ),
    ],
)
def test_bad_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(PackError):
        Manifest.parse(data)


def test_failed_build_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="the skeleton is missing"):
        build_pack(tmp_path / "m.rgp", "m", 1, PARTS[3:4], arena=0, key=KEY)
    with pytest.raises(PackError, match="version"):
        build_pack(tmp_path / "m.rgp", "m", 0, PARTS, arena=0, key=KEY)
    with pytest.raises(InputError, match="does not fit"):
        build_pack(tmp_path / "m.rgp", "m", -1, PARTS, arena=0, key=KEY)
    many = [NewPart(ROLE_WEIGHTS, USE_EXECUTOR, n, b"") for n in range(2000)]
    with pytest.raises(InputError, match="more than a pack can hold"):
        build_pack(tmp_path / "m.rgp", "m", 1, PARTS[:2] + many, arena=0, key=KEY)
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="cannot write"):
        build_pack(tmp_path / "taken", "m", 1, PARTS, arena=0, key=KEY)
    with pytest.raises(InputError, match="cannot write"):
        build_pack(tmp_path / "no" / "m.rgp", "m", 1, PARTS, arena=0, key=KEY)
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGROW_HOME", str(tmp_path / "home"))
    assert keys.trusted_keys() == []
    own = keys.signing_key()
    assert (tmp_path / "home" / "key.pem").stat().st_mode & 0o777 == 0o600
    assert keys.public_key(keys.signing_key()) == keys.public_key(own)
    private, public = keys.keygen(tmp_path / "other.pem")
    (tmp_path / "home" / "trusted").mkdir()
    public.rename(tmp_path / "home" / "trusted" / "other.pub")
    other = keys.public_key(keys.signing_key(private))
    assert keys.trusted_keys() == [keys.public_key(own), other]
    with pytest.raises(InputError, match="exists already"):
        keys.keygen()
    with pytest.raises(InputError, match="cannot read"):
        keys.signing_key(tmp_path / "absent.pem")
    for text in ("", "no key", public.name * 100):
        (tmp_path / "bad.pem").write_text(text)
        with pytest.raises(InputError, match="not a private key"):
            keys.signing_key(tmp_path / "bad.pem")
        (tmp_path / "home" / "trusted" / "bad.pub").write_text(text)
        with pytest.raises(InputError):
            keys.trusted_keys()
