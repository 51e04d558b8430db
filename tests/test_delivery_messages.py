"""Desired messages, names and broker addresses: what is accepted, and that anything else is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from delivery_support import desired_message, make_pack
from hypothesis import given
from hypothesis import strategies as st
from regrow.broker import Broker
from regrow.errors import DeliveryError, SignatureError
from regrow.topics import Desired, check_name, chunks

KEY = Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def message(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    head = make_pack(tmp_path_factory.mktemp("pack") / "d.rgp", KEY)
    return desired_message(head, KEY, "device/pi", 1790000000)


def test_a_desired_message_survives_the_way(message: bytes) -> None:
    desired = Desired.parse(message)
    desired.check()
    assert (desired.target, desired.model, desired.version) == ("device/pi", "digits", 1)
    assert json.loads(desired.to_json()) == json.loads(message)
    assert set(json.loads(message)) == {
        *("target", "model", "version", "pack", "head", "bytes", "sequence", "signer", "signature")
    }


def test_the_signature_covers_every_field(message: bytes) -> None:
    changes: dict[str, Any] = {"target": "group/pi", "model": "d", "version": 2, "pack": "0" * 64}
    changes |= {"head": 5, "bytes": 6, "sequence": 7, "signer": "0" * 64, "signature": "1" * 128}
    for field, value in changes.items():
        with pytest.raises(SignatureError):
            Desired.parse(json.dumps(json.loads(message) | {field: value}).encode()).check()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target", "pi"),
        ("target", "device/a/b"),
        ("target", 5),
        ("model", "a b"),
        ("version", 0),
        ("version", 2**31),
        ("version", True),
        ("version", 1.0),
        ("pack", "A" * 64),
        ("pack", None),
        ("head", -1),
        ("sequence", 2**53),
        ("signer", "00"),
        ("signature", "zz"),
    ],
)
def test_fields_out_of_bounds_are_refused(message: bytes, field: str, value: object) -> None:
    with pytest.raises(DeliveryError):
        Desired.parse(json.dumps(json.loads(message) | {field: value}).encode())


@given(st.one_of(st.binary(max_size=200), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    with pytest.raises(DeliveryError):
        Desired.parse(payload)


def test_a_long_message_is_not_even_read(message: bytes) -> None:
    with pytest.raises(DeliveryError, match="more than 4096"):
        Desired.parse(message + b" " * 4096)


def test_names_and_chunks() -> None:
    assert check_name("a-Z_0.9") == "a-Z_0.9"
    for wrong in ("", "a/b", "+", "#", "a b", "ä", "x" * 65, "a\n"):
        with pytest.raises(DeliveryError):
            check_name(wrong)
    assert [chunks(size) for size in (0, 1, 2048, 2049)] == [0, 1, 1, 2]


def test_broker_addresses() -> None:
    assert Broker.parse("mqtt://h") == Broker("h", 1883)
    assert Broker.parse("mqtts://h/") == Broker("h", 8883, tls=True)
    full = Broker.parse("mqtt://u%40x:p%3A@[::1]:99")
    assert (full.user, full.password, full.host, full.port) == ("u@x", "p:", "::1", 99)
    assert "p:" not in repr(full)
    assert str(full) == "mqtt://::1:99"
    for wrong in ("h", "http://h", "mqtt://", "mqtt://h:x", "mqtt://h:99999", "mqtt://h/path", ""):
        with pytest.raises(DeliveryError):
            Broker.parse(wrong)
