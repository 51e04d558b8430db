"""Ed25519 signatures."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from regrow.errors import SignatureError


def verify(signer: bytes, signature: bytes, message: bytes) -> None:
    """Raise SignatureError unless `signature` (64 bytes) of `message` is that of `signer` (32 bytes)."""
    try:
        Ed25519PublicKey.from_public_bytes(signer).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise SignatureError(
            f"the signature is not that of key {signer[:8].hex()}: what it signs was altered"
        ) from None
