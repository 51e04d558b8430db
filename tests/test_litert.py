"""Loading packs on a Pi: both backends, the skeleton, what predict takes, the probe. Needs no host code."""

import gc
import os
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import regrow
from numpy.typing import NDArray
from parts import head
from regrow import litert, pack, probe, skeleton
from regrow.errors import BackendError, InputError, PackError
from regrow.network import Network, TensorInfo
from regrow.reader import Reader

GOLDEN = Path(__file__).parent / "golden"
PACK = GOLDEN / "network.rgp"
USES = {"litert": pack.USE_LITERT, "numpy": pack.USE_EXECUTOR}
TOLERANCE = {"litert": 2, "numpy": 0}


def golden() -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Inputs (n, 12, 12, 3) and the outputs (n, 10) that they must give."""
    x = np.fromfile(GOLDEN / "network_in.bin", np.int8).reshape(-1, 12, 12, 3)
    return x, np.fromfile(GOLDEN / "network_out.bin", np.int8).reshape(-1, 10)


@pytest.fixture(params=["numpy", "litert"])
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    with regrow.load(PACK, request.param) as loaded:
        yield loaded


def assert_near(found: Any, wanted: Any, network: Network, unit: float = 1) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found.astype(np.float64) - wanted).max() <= TOLERANCE[network.backend] * unit


def test_what_a_network_tells(network: Network) -> None:
    assert (network.name, network.version) == ("network", 1)
    assert network.inputs == (TensorInfo((1, 12, 12, 3), np.dtype(np.int8), 1 / 128, -1),)
    assert network.outputs == (TensorInfo((1, 10), np.dtype(np.int8), 1 / 256, -128),)


def test_integers_give_integers(network: Network) -> None:
    x, y = golden()
    found = network.predict(x)
    assert found.dtype == np.int8
    assert_near(found, y, network)


def test_the_output_has_the_leading_axes_of_the_input(network: Network) -> None:
    x, y = golden()
    assert_near(network.predict(x[0]), y[0], network)
    assert_near(network.predict(x[:1]), y[:1], network)
    assert_near(network.predict(x[:, None]), y[:, None], network)
    assert network.predict(x[:0]).shape == (0, 10)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_real_units_give_real_units(network: Network, dtype: type) -> None:
    x, y = golden()
    real = ((x.astype(np.int32) + 1) / 128).astype(dtype)
    found = network.predict(real)
    assert found.dtype == np.float32
    assert_near(found, (y.astype(np.int32) + 128) / 256, network, 1 / 256)


def test_real_inputs_are_rounded_half_away_from_zero_and_clamped() -> None:
    with regrow.load(PACK, "numpy") as network:
        steps = np.array([0.5, -0.5, 1.5, -1.5, 0.49999997, 1e30, -np.inf], np.float32)
        levels = np.array([0, -2, 1, -3, -1, 127, -128], np.int8)
        shape = (len(steps), 12, 12, 3)
        given = np.broadcast_to((steps / 128)[:, None, None, None], shape)
        wanted = network.predict(np.broadcast_to(levels[:, None, None, None], shape))
        np.testing.assert_array_equal(network.predict(given), (wanted.astype(np.float32) + 128) / 256)


class TwoInTwoOut:
    """An engine that hands a float input and a uint8 input on."""

    backend = "numpy"
    inputs = outputs = (
        TensorInfo((1, 2), np.dtype(np.float32), 0, 0),
        TensorInfo((3,), np.dtype(np.uint8), 0.5, 10),
    )

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        return list(inputs)


def test_several_inputs_and_outputs_are_lists() -> None:
    network = Network("two", 1, TwoInTwoOut(), lambda: None)
    floats, integers = network.predict([np.ones((4, 2)), np.full((4, 3), 12, np.uint8)])
    assert (floats.shape, integers.shape) == ((4, 2), (4, 3))
    assert (floats.dtype, integers.dtype) == (np.float32, np.float32)
    assert (integers == 1).all()
    for wrong in ([np.ones((1, 2))], [np.ones((4, 2)), np.ones((5, 3))], np.ones((2, 2))):
        with pytest.raises(InputError):
            network.predict(wrong)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((12, 12), np.int8), r"shape \(12, 12\) .* takes \(1, 12, 12, 3\)"),
        (np.zeros((2, 2, 12, 12, 3), np.int8), "was given where the network takes"),
        (np.zeros((12, 12, 3), np.uint8), "type uint8 .* takes int8 or floats in real units"),
        (np.zeros((12, 12, 3), np.int64), "type int64"),
        (np.zeros((12, 12, 3), complex), "type complex128"),
        (np.full((12, 12, 3), np.nan), "NaN"),
        ("a text", "was given where the network takes"),
        ([[1.0], [1.0, 2.0]], "numbers"),
    ],
)
def test_wrong_samples_are_refused(network: Network, x: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        network.predict(x)


def test_a_pack_of_the_caller_stays_open() -> None:
    x, y = golden()
    with pack.open_pack(PACK) as opened:
        with regrow.load(opened, "numpy") as network:
            np.testing.assert_array_equal(network.predict(x), y)
        opened.verify(opened.part(pack.ROLE_GRAPH, pack.USE_EXECUTOR))
    with pytest.raises(InputError, match="closed"):
        network.predict(x)


def test_a_forgotten_network_closes_its_file() -> None:
    network = regrow.load(PACK, "numpy")
    network.predict(golden()[0][0])
    assert str(PACK) in open_files()
    del network
    gc.collect()
    assert str(PACK) not in open_files()


def open_files() -> list[str]:
    links = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
    return [os.readlink(link) for link in links if link.is_symlink()]


def test_keys_that_are_not_trusted_are_refused() -> None:
    with pytest.raises(PackError, match="not trusted"):
        regrow.load(PACK, trust=[bytes(32)])


def test_a_backend_of_another_name_is_refused() -> None:
    with pytest.raises(BackendError, match="no backend 'tpu'"):
        regrow.load(PACK, "tpu")


def test_without_litert_numpy_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in litert.PACKAGES:
        monkeypatch.setitem(sys.modules, f"{package}.interpreter", None)
    with regrow.load(PACK) as network:
        assert network.backend == "numpy"
    with pytest.raises(BackendError, match="LiteRT is not installed: install ai-edge-litert"):
        regrow.load(PACK, "litert")


def test_tflite_runtime_is_refused_with_numpy_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", ModuleType("tflite_runtime.interpreter"))
    monkeypatch.setattr(np, "__version__", "2.1.0")
    with pytest.raises(BackendError, match="crashes with numpy 2"):
        litert.interpreter_module()
    monkeypatch.setattr(np, "__version__", "1.26.4")
    assert litert.interpreter_module().__name__ == "tflite_runtime.interpreter"


def test_litert_is_the_first_choice_and_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with regrow.load(PACK) as network:
        assert network.backend == "litert"
    assert capfd.readouterr().err == ""


def test_litert_needs_no_file_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    x, y = golden()
    with regrow.load(PACK, "litert") as network:
        assert_near(network.predict(x), y, network)
    assert not list(tmp_path.iterdir())


def test_the_skeleton_grows_the_whole_file() -> None:
    file = BytesIO()
    with pack.open_pack(PACK) as opened:
        skeleton.regrow(opened, file)
        assert skeleton.size(opened) == file.tell()
    assert file.getvalue() == (GOLDEN / "network.tflite").read_bytes()


class Parts:
    """A pack of one skeleton and one weights part, unsigned."""

    def __init__(self, skeleton_part: bytes, weights: bytes) -> None:
        self._parts = {pack.ROLE_SKELETON: skeleton_part, pack.ROLE_WEIGHTS: weights}

    def part(self, role: int, use: int, number: int = 0) -> int:
        assert use == pack.USE_LITERT
        return role

    def reader(self, role: int) -> Reader:
        return Reader(BytesIO(self._parts[role]), 0, len(self._parts[role]))


LEVELS = head(0, 0, 2, 5, 1, 1) + struct.pack("<f5b", 0.5, 1, 2, 3, 4, 5)


def grown(size: int, holes: bytes, stream: bytes) -> bytes:
    file = BytesIO()
    part = struct.pack("<BI", 1, size) + holes + stream
    skeleton.regrow(Parts(part, LEVELS), file)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize(
    ("dtype", "middle"),
    [
        (0, bytes([1, 2, 3, 4, 5])),
        (1, struct.pack("<5f", 0.5, 1, 1.5, 2, 2.5)),
        (2, struct.pack("<5e", 0.5, 1, 1.5, 2, 2.5)),
    ],
)
def test_a_hole_takes_the_weights_in_its_type(dtype: int, middle: bytes) -> None:
    size = 4 + len(middle)
    assert grown(size, bytes([1, 3, 0, dtype]), zlib.compress(b"abcd")) == b"abc" + middle + b"d"


@pytest.mark.parametrize(
    ("size", "holes", "stream", "message"),
    [
        (9, bytes([1, 3, 0, 4]), zlib.compress(b"abcd"), "unknown dtype"),
        (9, bytes([1, 5, 0, 0]), zlib.compress(b"abcd"), "pass the end"),
        (14, bytes([2, 3, 0, 0, 7, 0, 0]), zlib.compress(b"abcd"), "overlap"),
        (10, bytes([1, 3, 0, 0]), zlib.compress(b"abcd"), "fewer bytes"),
        (8, bytes([1, 3, 0, 0]), zlib.compress(b"abcd"), "more bytes"),
        (9, bytes([1, 3, 0, 0]), zlib.compress(b"abcd")[:-1], "cut short"),
        (9, bytes([1, 3, 0, 0]), zlib.compress(b"abcd") + b"x", "follow"),
        (9, bytes([1, 3, 0, 0]), b"not zlib", "damaged"),
        (9, bytes([200, 1, 3, 0, 0]), zlib.compress(b"abcd"), "more holes"),
    ],
)
def test_a_skeleton_that_does_not_fit_is_refused(
    size: int, holes: bytes, stream: bytes, message: str
) -> None:
    with pytest.raises(PackError, match=message):
        grown(size, holes, stream)


def test_regrowing_takes_little_memory() -> None:
    """8 million weights, 32 MB as floats, a megabyte at most on the way."""
    count = 8 << 20
    weights = head(1, 0, 0, count, 1, 1) + struct.pack("<BBbBhII", 1, 0, -20, 8, 0, 1, count)
    weights += struct.pack("<hH", 0, 1000)
    part = struct.pack("<BIBBBB", 1, 4 * count, 1, 0, 0, 1) + zlib.compress(b"")
    with open(os.devnull, "wb") as file:
        tracemalloc.start()
        skeleton.regrow(Parts(part, weights), file)  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1 << 20


def probe_of(network: Network) -> bytes:
    with pack.open_pack(PACK) as opened:
        reader = opened.reader(opened.part(pack.ROLE_PROBE, USES[network.backend]))
        return reader.read(reader.left)


def run_probe(network: Network, data: bytes) -> None:
    probe.run(network, Reader(BytesIO(data), 0, len(data)))


def test_a_sound_network_passes_its_probe(network: Network) -> None:
    run_probe(network, probe_of(network))


def test_another_output_fails_the_probe(network: Network) -> None:
    data = bytearray(probe_of(network))
    data[-1] ^= 0x40
    with pytest.raises(PackError, match="fails its probe"):
        run_probe(network, bytes(data))


def test_damaged_probes_are_refused(network: Network) -> None:
    data = probe_of(network)
    for cut in range(len(data)):
        with pytest.raises(PackError):
            run_probe(network, data[:cut])
    with pytest.raises(PackError, match="belong to nothing"):
        run_probe(network, data + b"\0")
    for place, message in ((0, "form"), (1, "domain"), (2, "samples"), (3, "input form")):
        with pytest.raises(PackError, match=message):
            run_probe(network, data[:place] + b"\xee" + data[place + 1 :])


def test_probe_inputs_grow_as_documented() -> None:
    """The generator of docs/pack-format.md, written out once more."""

    def grow(seed: int, i: int) -> int:
        left, right = (i >> 16) ^ (seed >> 16), (i & 0xFFFF) ^ (seed & 0xFFFF)
        for mask, factor in ((0x9E37, 0x2C1B), (0x79B9, 0x3A53), (0x7F4A, 0x1F35), (0x7C15, 0x2E47)):
            left, right = right, left ^ ((((right ^ mask) * factor) >> 7) & 0xFFFF)
        return right

    integers = TensorInfo((1, 3), np.dtype(np.int8), 0.5, 0)
    floats = TensorInfo((2,), np.dtype(np.float32), 0, 0)
    first, second = probe.inputs([integers, floats], 2, 0xDEADBEEF, -1.0, 3.0)
    for t in range(2):
        u = [grow(0xDEADBEEF, t * 5 + j) for j in range(5)]
        assert first[t].tobytes() == bytes(value >> 8 for value in u[:3])
        assert second[t].tolist() == [np.float32(-1 + 4 * value / 65536) for value in u[3:]]
    with pytest.raises(PackError, match="cannot grow inputs of type int16"):
        probe.inputs([TensorInfo((1,), np.dtype(np.int16), 1, 0)], 1, 0, 0, 0)
