"""The golden packs give what expected.json says, in tiles of any size."""

import gc
import json
from array import array
from hashlib import sha256

from regrow.pack import ROLE_WEIGHTS, open_pack
from regrow.weights import Weights
from support import golden, hexadecimal


def digest(weights, read, tile):
    """SHA-256 of all that `read` grows, `tile` items at a time."""
    total = sha256()
    left = weights.count
    while left:
        size = min(left, len(tile))
        tile = tile[:size]
        read(tile)
        total.update(tile)
        left -= size
    weights.rewind()
    return hexadecimal(total.digest())


def check(name):
    with open(golden("expected.json")) as file:
        expected = json.load(file)[name]
    trusted = [bytes.fromhex(expected["signer"])]
    pack = open_pack(golden(name), trusted)
    manifest = pack.manifest
    assert hexadecimal(pack.head.id) == expected["id"]
    for field in ("name", "version", "targets", "arena"):
        assert getattr(manifest, field) == expected[field]
    for answer in expected["weights"]:
        gc.collect()
        part = pack.part(ROLE_WEIGHTS, answer["use"], answer["number"])
        assert part.use == answer["use"]
        weights = Weights(pack.reader(part))
        for field in ("dtype", "count", "channels", "inner"):
            assert getattr(weights, field) == answer[field]
        for size in (250, 37):
            if answer["levels_sha256"]:
                assert digest(weights, weights.read_levels, bytearray(size)) == answer["levels_sha256"]
            tile = array("f", bytes(4 * size))
            assert digest(weights, weights.read_floats, tile) == answer["floats_sha256"]
    pack.close()


def test_raw():
    check("raw.rgp")


def test_central():
    check("central.rgp")


def test_grid():
    check("grid.rgp")
