"""Open a `.rgp` file on the host: its signer trusted, every part whole."""

from pathlib import Path

from regrow.errors import SignatureError
from regrow.pack import Pack, open_pack

from regrow_host import keys


def open_trusted(path: Path) -> Pack:
    """Raises SignatureError for a signer that is not trusted, PackError for damage anywhere."""
    pack = open_pack(path)
    try:
        if pack.head.signer not in keys.trusted_keys():
            raise SignatureError(
                f"{path} is signed by key {pack.head.signer[:8].hex()}, which is not trusted here: "
                "accept it by regrow trust KEY.pub"
            )
        for part in pack.manifest.parts:
            pack.verify(part)
    except BaseException:
        pack.close()
        raise
    return pack
