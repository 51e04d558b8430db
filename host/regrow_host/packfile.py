"""Open a `.rgp` file on the host: its signer trusted, every part whole."""

from pathlib import Path

from regrow.pack import Pack, open_pack

from regrow_host import keys


def open_trusted(path: Path) -> Pack:
    """Raises SignatureError for a signer that is not trusted, PackError for damage anywhere."""
    pack = open_pack(path, keys.trusted_keys())
    try:
        for part in pack.manifest.parts:
            pack.verify(part)
    except BaseException:
        pack.close()
        raise
    return pack
