"""A board's update with its power cut or its disk full at every step: a whole version starts then."""

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from builder import Builder
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from regrow import topics
from regrow.executor import Executor
from regrow.pack import ROLE_GRAPH, ROLE_WEIGHTS, USE_EXECUTOR, open_pack
from regrow_host import boardfiles, graphfile, lower, packing, tflite
from regrow_host.encode import raw

SCRIPT = Path(__file__).with_name("board_power_cuts.py")
MICROPYTHON = Path(sys.executable).with_name("micropython")


def publish(version: int, key: Ed25519PrivateKey, folder: Path) -> None:
    """A version's blobs, its desired message, and the outputs that it must give."""
    lowered = lower.lower(tflite.read(network(version)))
    parts = [packing.NewPart(ROLE_GRAPH, USE_EXECUTOR, 0, graphfile.write(lowered.graph))]
    for number, each in enumerate(lowered.weights):
        body = raw.encode(each.levels, each.scales, each.inner)
        parts.append(packing.NewPart(ROLE_WEIGHTS, USE_EXECUTOR, number, body))
    path = folder / f"{version}.rgp"
    head = packing.build_pack(path, "net", version, parts, arena=lowered.graph.arena, key=key)
    for data in [head.data, *(part.data for part in parts)]:
        (folder / "blobs" / sha256(data).hexdigest()).write_bytes(data)
    size = path.stat().st_size
    desired = topics.Desired(
        "device/b1", "net", version, head.id.hex(), len(head.data), size, sequence=version
    )
    signed = desired.signed(key.public_key().public_bytes_raw(), key.sign(desired.message()))
    (folder / f"desired{version}").write_bytes(signed.to_json())
    with open_pack(path) as pack:
        x = np.frombuffer((folder / "input").read_bytes(), np.int8).reshape(1, 1, 4, 4, 1)
        (folder / f"outputs{version}").write_bytes(np.asarray(Executor.of(pack).run([x])[0]).tobytes())


def network(seed: int) -> bytes:
    return Builder((1, 4, 4, 1), seed=seed).conv(4).reshape(1, 64).dense(50).bytes()


@pytest.mark.parametrize(("disk", "board"), [("posix", "stays"), ("fat", "restarts"), ("full", "restarts")])
def test_a_power_cut_or_a_full_disk_at_any_step_leaves_a_whole_version(
    disk: str, board: str, tmp_path: Path
) -> None:
    key = Ed25519PrivateKey.generate()
    (tmp_path / "key").write_bytes(key.public_key().public_bytes_raw())
    (tmp_path / "input").write_bytes(bytes(range(100, 116)))
    for folder in ("blobs", "disk"):
        (tmp_path / folder).mkdir()
    for version in (1, 2):
        publish(version, key, tmp_path)
    runtime = tmp_path / "runtime"
    boardfiles.build(runtime, "host")
    (runtime / "regrow" / "signing.mpy").unlink()
    (runtime / "regrow" / "signing.py").write_text("def verify(*_):\n    pass\n")  # it takes a second
    done = subprocess.run(
        [str(MICROPYTHON), str(SCRIPT), disk, board],
        cwd=tmp_path,
        env={"MICROPYPATH": f"{runtime}:.frozen"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout) > 60
