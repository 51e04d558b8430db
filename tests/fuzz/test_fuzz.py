"""Any bytes whatever: parsers succeed or raise PackError, in bounded time and memory."""

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import regrow
from golden.make import KEY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from regrow import probe, skeleton
from regrow.errors import PackError
from regrow.graph import Graph
from regrow.pack import (
    ROLE_GRAPH,
    ROLE_PROBE,
    ROLE_SKELETON,
    ROLE_WEIGHTS,
    Head,
    Manifest,
    Pack,
    Part,
    open_pack,
    signed_message,
)
from regrow.reader import Reader
from regrow.weights import Weights
from regrow_host.keys import public_key

FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = sorted(FOLDER.glob("*.rgp"))
NETWORK = FOLDER / "network.rgp"
PACKS = [path.read_bytes() for path in GOLDEN]
MOST_MEMORY = 12 << 20
MOST_SECONDS = 15.0
"""With every allocation traced, which makes decoding some 25 times slower."""
READ_AT_MOST = 50_000

fuzz = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


def read(pack: Pack, part: Part) -> bytes:
    reader = pack.reader(part)
    return reader.read(reader.left)


def blobs(role: int) -> list[bytes]:
    """The golden packs' parts of a role."""
    found = []
    for path in GOLDEN:
        with open_pack(path) as pack:
            for part in pack.manifest.parts:
                if part.role == role:
                    found.append(read(pack, part))
    return found


@st.composite
def damaged(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """One of the originals with bits flipped, bytes replaced, cut, inserted or doubled; or just any bytes."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1)) if data else 0
        match draw(st.integers(0, 5)):
            case 0 if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case 1:
                data[at : at + 4] = draw(st.sampled_from([b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f"]))
            case 2:
                del data[at:]
            case 3:
                data[at:at] = draw(st.binary(max_size=8))
            case 4:
                data += data[at:]
            case 5:
                return draw(st.binary(max_size=300))
    return bytes(data)


@contextmanager
def bounded() -> Iterator[None]:
    """A PackError is fine; another error, much memory or much time is not."""
    tracemalloc.start()
    start = time.process_time()
    try:
        with suppress(PackError):
            yield
        assert time.process_time() - start < MOST_SECONDS
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()


def reader_of(data: bytes) -> Reader:
    return Reader(BytesIO(data), 0, len(data))


def use_everything(pack: Pack) -> None:
    for part in pack.manifest.parts:
        reader = pack.reader(part)
        if part.role == ROLE_WEIGHTS:
            read_weights(reader)


def read_weights(reader: Reader) -> None:
    weights = Weights(reader)
    count = min(weights.count, READ_AT_MOST)
    weights.read_floats(np.empty(count, np.float32))
    weights.rewind()
    weights.read_levels(np.empty(count, np.int8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@given(damaged(PACKS))
@fuzz
def test_pack(folder: Path, data: bytes) -> None:
    (folder / "m.rgp").write_bytes(data)
    with bounded(), open_pack(folder / "m.rgp", [public_key(KEY)]) as pack:
        use_everything(pack)


@pytest.mark.parametrize("data", PACKS, ids=lambda data: sha256(data).hexdigest()[:8])
def test_no_flipped_bit_passes(folder: Path, data: bytes) -> None:
    """Every byte of a pack is signed or hashed."""
    path = folder / "flipped.rgp"
    random = np.random.default_rng(len(data))
    positions = {*range(260), *random.integers(0, len(data), 200).tolist()}
    for position in sorted(positions):
        flipped = bytearray(data)
        flipped[position] ^= 1 << random.integers(8)
        path.write_bytes(flipped)
        with pytest.raises(PackError):
            load_whole(path)


@pytest.mark.parametrize("data", PACKS, ids=lambda data: sha256(data).hexdigest()[:8])
def test_no_cut_pack_passes(folder: Path, data: bytes) -> None:
    path = folder / "cut.rgp"
    for size in {*range(0, 260, 3), *range(260, len(data), 97), len(data) - 1}:
        path.write_bytes(data[:size])
        with pytest.raises(PackError):
            load_whole(path)


def load_whole(path: Path) -> None:
    with open_pack(path, [public_key(KEY)]) as pack:
        use_everything(pack)


@given(damaged([Head.parse(reader_of(data)).manifest for data in PACKS]))
@fuzz
def test_manifest(data: bytes) -> None:
    with bounded():
        Manifest.parse(data)


@given(damaged(PACKS))
@fuzz
def test_head(data: bytes) -> None:
    with bounded():
        Head.parse(reader_of(data)).verify()


@given(damaged(blobs(ROLE_WEIGHTS)))
@fuzz
def test_weights(data: bytes) -> None:
    with bounded():
        read_weights(reader_of(data))


@given(damaged(blobs(ROLE_GRAPH)))
@fuzz
def test_graph(data: bytes) -> None:
    with bounded():
        Graph.parse(reader_of(data))


@given(damaged(blobs(ROLE_PROBE)))
@fuzz
def test_probe(data: bytes) -> None:
    with (
        regrow.load(NETWORK, "numpy") as network,
        bounded(),
    ):
        probe.run(network, reader_of(data))


@pytest.fixture(scope="module")
def slot(folder: Path) -> Path:
    """The network as a device keeps it."""
    (folder / "parts").mkdir()
    (folder / "A").mkdir()
    with open_pack(NETWORK) as pack:
        for part in pack.manifest.parts:
            (folder / "parts" / part.sha256.hex()).write_bytes(read(pack, part))
    return folder / "A"


def swap(slot: Path, role: int, data: bytes) -> None:
    """Put `data` in place of the part of that role, rightly signed."""
    with open_pack(NETWORK) as pack:
        manifest = pack.head.manifest
        for part in pack.manifest.parts:
            if part.role == role:
                manifest = manifest.replace(entry(read(pack, part)), entry(data))
    (slot.parent / "parts" / sha256(data).hexdigest()).write_bytes(data)
    (slot / "head").write_bytes(Head(public_key(KEY), KEY.sign(signed_message(manifest)), manifest).data)


def entry(content: bytes) -> bytes:
    """Size and SHA-256 of a part as they stand in the manifest."""
    return len(content).to_bytes(4, "little") + sha256(content).digest()


@given(damaged([blob for blob in blobs(ROLE_SKELETON) if len(blob) > 100]))
@fuzz
def test_skeleton(slot: Path, data: bytes) -> None:
    swap(slot, ROLE_SKELETON, data)
    with bounded(), open_pack(slot) as pack:
        done = 0
        for piece in skeleton.pieces(pack):
            done += len(piece)
            if done > 1 << 20:
                break


@given(damaged([blob for blob in blobs(ROLE_GRAPH) if len(blob) > 100]))
@fuzz
def test_executor(slot: Path, data: bytes) -> None:
    """A graph that its parser accepts runs, or is refused when it is loaded."""
    swap(slot, ROLE_GRAPH, data)
    with bounded(), regrow.load(slot, "numpy") as network:
        if sum(np.prod(info.shape) for info in network.inputs) < 1000:
            xs = [np.zeros(info.shape, info.dtype) for info in network.inputs]
            network.predict(xs if len(xs) > 1 else xs[0])
