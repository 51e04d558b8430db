"""Key files: the private key that signs packs, and the public keys that are trusted.

They lie in `$REGROW_HOME`, else `~/.config/regrow`: `key.pem` (PKCS 8) and `trusted/*.pub` (64 hex digits).
"""

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from regrow.errors import InputError
from regrow.store import read_public_key

__all__ = ["home", "keygen", "public_key", "read_public_key", "signing_key", "trusted_keys"]


def home() -> Path:
    """The folder of the key files."""
    return Path(os.environ.get("REGROW_HOME") or Path.home() / ".config" / "regrow")


def public_key(key: Ed25519PrivateKey) -> bytes:
    """The 32 bytes that stand for the key in packs."""
    return key.public_key().public_bytes_raw()


def keygen(path: str | Path | None = None) -> tuple[Path, Path]:
    """Make a key pair: the private key at `path` (default `key.pem` in `home()`), the public one beside it.

    Returns both paths. Raises InputError if one of the files exists or cannot be written.
    """
    private = Path(path) if path else home() / "key.pem"
    public = private.with_suffix(".pub")
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    if public.exists():
        raise InputError(f"{public} exists already: remove it first if it is not needed")
    _create(private, pem, 0o600)
    _create(public, (public_key(key).hex() + "\n").encode(), 0o644)
    return private, public


def signing_key(path: str | Path | None = None) -> Ed25519PrivateKey:
    """The private key at `path`, or that in `home()`, which is made on first use. Raises InputError."""
    private = Path(path) if path else home() / "key.pem"
    if path is None and not private.exists():
        keygen()
    try:
        key = serialization.load_pem_private_key(private.read_bytes(), password=None)
    except OSError as error:
        raise InputError(f"cannot read the key {private}: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError(f"{private} is not a private key in PEM without a password") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{private} is not an Ed25519 key: make one with `regrow keygen`")
    return key


def trusted_keys() -> list[bytes]:
    """The own public key, if there is one, and those in `trusted/`. Raises InputError."""
    own = home() / "key.pem"
    keys = [public_key(signing_key(own))] if own.exists() else []
    return keys + [read_public_key(path) for path in sorted((home() / "trusted").glob("*.pub"))]


def _create(path: Path, data: bytes, mode: int) -> None:
    """Write a file that must not exist yet."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
    except FileExistsError:
        raise InputError(f"{path} exists already: remove it first if it is not needed") from None
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
