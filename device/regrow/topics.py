"""Names of a fleet's topics and the signed desired message (docs/mqtt.md)."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import Any

from regrow.errors import DeliveryError
from regrow.signing import verify

CHUNK = 2048  # bytes of a chunk; the last one of a blob is shorter
FLEET = "regrow"  # the fleet of who names none
MAX_MESSAGE = 4096  # bytes of a desired message: one is about 500

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")
_LARGEST = 2**53 - 1  # the largest integer that every JSON reader keeps exact


def check_name(name: str, what: str = "device") -> str:
    """`name` if it may stand in a topic, else DeliveryError."""
    if not _NAME.fullmatch(name):
        raise DeliveryError(f"the {what} name {name!r} must be 1 to 64 of A-Z a-z 0-9 . _ -")
    return name


def chunk(fleet: str, blob: str, number: int) -> str:
    """Topic of chunk `number` of the blob with that hash (64 hex digits)."""
    return f"{fleet}/part/{blob}/{number}"


def marker(fleet: str, blob: str) -> str:
    """Topic that says that every chunk of the blob is on the broker."""
    return f"{fleet}/part/{blob}"


def chunks(size: int) -> int:
    """How many chunks a blob of `size` bytes has."""
    return -(-size // CHUNK)


def of_device(fleet: str, device: str, what: str) -> str:
    """Topic `desired`, `state`, `reported` or `telemetry` of a device; `+` stands for all devices."""
    return f"{fleet}/device/{device}/{what}"


def desired(fleet: str, target: str) -> str:
    """Topic of the desired version of a target, `device/ID` or `group/G`."""
    return f"{fleet}/{target}/desired"


@dataclass(frozen=True)
class Desired:
    """The version that a target shall run: `head` and `size` are the bytes of the pack's head and of the
    whole pack, `signer` and `signature` raw bytes (32 and 64)."""

    target: str
    model: str
    version: int
    pack: str
    head: int
    size: int
    sequence: int
    signer: bytes = b""
    signature: bytes = b""

    def message(self) -> bytes:
        """The bytes that the signature covers."""
        fields = (self.target, self.model, self.version, self.pack, self.head, self.size, self.sequence)
        digest = hashlib.sha256("".join(f"{field}\n" for field in fields).encode()).digest()
        return b"regrow desired v1\n" + digest

    def signed(self, signer: bytes, signature: bytes) -> Desired:
        """This message with the signature of `message()` by `signer`."""
        return replace(self, signer=signer, signature=signature)

    def check(self) -> None:
        """Raise SignatureError unless the signature is the signer's."""
        verify(self.signer, self.signature, self.message())

    def to_json(self) -> bytes:
        """The payload that travels."""
        fields: dict[str, Any] = dict(vars(self))
        fields |= {"signer": self.signer.hex(), "signature": self.signature.hex()}
        fields["bytes"] = fields.pop("size")
        return json.dumps(fields).encode()

    @classmethod
    def parse(cls, payload: bytes) -> Desired:
        """Read a payload; DeliveryError if it is no desired message. The signature is not checked here."""
        if len(payload) > MAX_MESSAGE:
            raise DeliveryError(f"a desired message has {len(payload)} bytes, more than {MAX_MESSAGE}")
        try:
            fields = json.loads(payload)
            return cls(
                target=_target(fields["target"]),
                model=check_name(fields["model"], "model"),
                version=_count(fields["version"], 1, 2**31 - 1),
                pack=_hash(fields["pack"]),
                head=_count(fields["head"], 1),
                size=_count(fields["bytes"], 1),
                sequence=_count(fields["sequence"], 1),
                signer=_hex(fields["signer"], 32),
                signature=_hex(fields["signature"], 64),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DeliveryError(f"a desired message cannot be read: {error!r}") from error


def _target(value: str) -> str:
    kind, _, name = value.partition("/")
    if kind not in ("device", "group"):
        raise ValueError(f"target {value!r}")
    check_name(name, kind)
    return value


def _hash(value: str) -> str:
    if not _HASH.fullmatch(value):
        raise ValueError(f"hash {value!r}")
    return value


def _hex(value: str, size: int) -> bytes:
    raw = bytes.fromhex(value)
    if len(raw) != size:
        raise ValueError(f"{len(raw)} bytes instead of {size}")
    return raw


def _count(value: object, low: int, high: int = _LARGEST) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"number {value!r}")
    return value
