"""Names of a fleet's topics and the signed desired message (docs/mqtt.md)."""

import json
from binascii import unhexlify
from hashlib import sha256

from .errors import DeliveryError

CHUNK = 2048  # bytes of a chunk; the last one of a blob is shorter
FLEET = "regrow"  # the fleet of who names none

_NAME = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
_HEX = "0123456789abcdef"
_FIELDS = ("target", "model", "version", "pack", "head", "bytes", "sequence")


def check_name(name, what="device"):
    """`name` if it may stand in a topic, else DeliveryError."""
    if not isinstance(name, str) or not 1 <= len(name) <= 64 or not all(char in _NAME for char in name):
        raise DeliveryError(f"the {what} name {name!r} must be 1 to 64 of A-Z a-z 0-9 . _ -")
    return name


def chunk(fleet, blob, number):
    """Topic of chunk `number` of the blob with that hash (64 hex digits)."""
    return f"{fleet}/part/{blob}/{number}"


def of_device(fleet, device, what):
    """Topic `desired`, `state`, `reported` or `telemetry` of a device."""
    return f"{fleet}/device/{device}/{what}"


def desired(fleet, target):
    """Topic of the desired version of a target, `device/ID` or `group/G`."""
    return f"{fleet}/{target}/desired"


class Desired:
    """The version that a target shall run. `signer` and `signature` are raw bytes (32 and 64)."""

    def __init__(self, payload):
        """Read a payload; DeliveryError if it is no desired message. The signature is not checked here."""
        try:
            fields = json.loads(payload)
            self.payload = payload
            self.target = fields["target"]
            kind, name = self.target.split("/", 1)
            if kind not in ("device", "group"):
                raise ValueError("target")
            check_name(name, kind)
            self.model = check_name(fields["model"], "model")
            self.version = _count(fields["version"])
            self.pack = _digits(fields["pack"], 64)
            self.head = _count(fields["head"])
            self.bytes = _count(fields["bytes"])
            self.sequence = _count(fields["sequence"])
            self.signer = unhexlify(_digits(fields["signer"], 64))
            self.signature = unhexlify(_digits(fields["signature"], 128))
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, MemoryError) as error:
            raise DeliveryError(f"a desired message cannot be read: {error!r}") from None

    def message(self):
        """The bytes that the signature covers."""
        digest = sha256()
        for field in _FIELDS:
            digest.update(f"{getattr(self, field)}\n".encode())
        return b"regrow desired v1\n" + digest.digest()

    def check(self):
        """Raise SignatureError unless the signature is the signer's. Takes a board seconds."""
        from .signing import verify  # heap only where signatures are checked

        verify(self.signer, self.signature, self.message())


def _digits(value, count):
    if not isinstance(value, str) or len(value) != count or not all(char in _HEX for char in value):
        raise ValueError("hex digits")
    return value


def _count(value):
    if type(value) is not int or not 1 <= value < 1 << 53:
        raise ValueError("number")
    return value
