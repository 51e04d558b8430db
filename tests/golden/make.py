"""Make the golden packs and what they must give: cd tests && python -m golden.make

Nothing here leaves a choice to an encoder, so a better one gives the same files.

expected.json has for each pack its `id`, `signer`, `name`, `version`, `targets`, `arena` and `weights`, of
each of these `use`, `number`, `codec`, `dtype`, `count`, `channels`, `inner`, the `scales` (hex of float32),
and of what grows `levels_sha256` (of int8), the first 16 `levels` (both null if the part holds floats) and
`floats_sha256` (of float32).
"""

import json
import struct
import sys
import zlib
from hashlib import sha256
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from golden.reference import as_float32, grow_part, head_of, scales_of
from regrow.codecs.gridmodel import Context, Model, Neighbour
from regrow.pack import (
    ROLE_GRAPH,
    ROLE_SKELETON,
    ROLE_WEIGHTS,
    USE_BOTH,
    USE_EXECUTOR,
    USE_LITERT,
)
from regrow_host.encode import central, grid, raw, snapped
from regrow_host.keys import public_key
from regrow_host.packing import NewPart, build_pack

FOLDER = Path(__file__).parent
KEY = Ed25519PrivateKey.from_private_bytes(sha256(b"regrow golden packs").digest())

# One int8 tensor of 4 values, which is input and output.
GRAPH = bytes([1, 1, 0, 1, 1, 0, 0, 4]) + bytes([0, 0, 1, 4]) + struct.pack("<fh", 0.5, 0) + bytes([0])
SKELETON = struct.pack("<BIB", 1, 8, 0) + zlib.compress(b"\x1c\0\0\0TFL3")


def weights(spread: float, count: int) -> np.ndarray:
    return (np.random.default_rng(count).standard_normal(count) * spread).astype(np.float32)


def levels(spread: float, count: int) -> np.ndarray:
    return np.clip(np.rint(weights(spread, count)), -128, 127).astype(np.int8)


def scales(count: int) -> np.ndarray:
    return (0.001 * 1.37 ** np.arange(count)).astype(np.float32)


def raw_parts() -> list[NewPart]:
    return [
        NewPart(ROLE_WEIGHTS, USE_EXECUTOR, 0, raw.encode(np.arange(-128, 128).astype(np.int8), scales(1))),
        NewPart(ROLE_WEIGHTS, USE_EXECUTOR, 1, raw.encode(levels(40, 72), scales(8), inner=9)),
        NewPart(ROLE_WEIGHTS, USE_BOTH, 2, raw.encode(levels(9, 45), scales(5))),
        NewPart(ROLE_WEIGHTS, USE_BOTH, 3, raw.encode(levels(30, 48), snapped(scales(24)), inner=2)),
        NewPart(ROLE_WEIGHTS, USE_LITERT, 0, raw.encode(weights(1, 33))),
        NewPart(ROLE_WEIGHTS, USE_LITERT, 1, raw.encode(weights(1, 33).astype(np.float16))),
    ]


def central_parts() -> list[NewPart]:
    forms = [
        (weights(0.1, 100), central.UNITARY, central.UNIFORM, None, 1, 0.01, 0.2),
        (weights(0.1, 70000), central.LAYER, central.UNIFORM, None, 0xFFFFFFFF),
        (weights(0.1, 64) + 3, central.LAYER, central.MEAN),
        (weights(1e-9, 100), central.BATCH, central.UNIFORM, 7, 0x80000001),
        (weights(1e6, 101), central.BATCH, central.MEAN, 5),
        (weights(1, 12), central.BATCH, central.UNIFORM, 1, 3),
        (np.zeros(10, np.float32), central.LAYER, central.UNIFORM),
    ]
    # The edges of every field: mean and bias at their extremes, all levels clamped.
    edge = struct.pack("<BBBBBbBhII", 1, 40, 1, 2, 0, -120, 1, -32768, 0x7FFF8000, 20)
    edge += struct.pack("<hHhH", 0, 32767, 32767, 32767)
    parts = [*(central.encode(*form) for form in forms), edge]
    return [NewPart(ROLE_WEIGHTS, USE_EXECUTOR, number, part) for number, part in enumerate(parts)]


def grid_parts() -> list[NewPart]:
    near = Neighbour(1, 40), Neighbour(40, -20), Neighbour(3000, 127)
    close, far = Context(1, 2, 7), Context(60, 15, 9)
    parts = [
        grid.encode(levels(2, 500), scales(1), model=Model(0, 9, 40, 3, 512)),
        grid.encode(levels(3, 501), scales(3), inner=4, model=Model(-3, 128, 41, 4, 64, near[:1])),
        grid.encode(levels(60, 4000), snapped(scales(10)), model=Model(5, 128, 68, 5, 48, near, far, 3, 107)),
        grid.encode(levels(2, 1000), scales(1), model=Model(1, 11, 0, 0, 16, (), close, 15, 0)),
        grid.encode(levels(1, 6500), scales(13), inner=5, model=Model(0, 128, 127, 7, 65520, near[1:], far)),
        grid.encode(levels(0.2, 9000), scales(1), model=Model(0, 6, 20, 1, 1008, near, close, 4, 40)),
        grid.encode(np.zeros(300, np.int8), scales(1)),
        grid.encode(np.array([127], np.int8), scales(1), model=Model(127, 1, 0, 6, 16)),
        grid.encode(
            np.repeat(np.array([-128, 127], np.int8), [5, 900]), scales(1), model=Model(-128, 128, 2, 2, 32)
        ),
    ]
    return [NewPart(ROLE_WEIGHTS, USE_EXECUTOR, number, part) for number, part in enumerate(parts)]


def expected(part: NewPart) -> dict[str, object]:
    codec, dtype, _, count, channels, inner, _ = head_of(part.data)
    grown, floats = grow_part(part.data)
    return {
        "use": part.use,
        "number": part.number,
        "codec": ("raw", "central", "grid")[codec],
        "dtype": dtype,
        "count": count,
        "channels": channels,
        "inner": inner,
        "scales": as_float32(scales_of(part.data)[0]).hex(),
        "levels_sha256": grown and sha256(grown).hexdigest(),
        "levels": grown and list(struct.unpack(f"{count}b", grown)[:16]),
        "floats_sha256": sha256(floats).hexdigest(),
    }


def main(folder: Path) -> None:
    codecs = [NewPart(ROLE_GRAPH, USE_EXECUTOR, 0, GRAPH)]
    packs = {
        "raw": [*codecs, NewPart(ROLE_SKELETON, USE_LITERT, 0, SKELETON), *raw_parts()],
        "central": codecs + central_parts(),
        "grid": codecs + grid_parts(),
    }
    answers = {}
    for version, (name, parts) in enumerate(packs.items(), 1):
        head = build_pack(folder / f"{name}.rgp", name, version, parts, arena=4, key=KEY)
        answers[f"{name}.rgp"] = {
            "id": head.id.hex(),
            "signer": public_key(KEY).hex(),
            "name": name,
            "version": version,
            "targets": head.verify().targets,
            "arena": 4,
            "weights": [expected(part) for part in parts if part.role == ROLE_WEIGHTS],
        }
    (folder / "expected.json").write_text(json.dumps(answers, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
