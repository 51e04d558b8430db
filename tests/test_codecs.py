"""Codecs: decoders against the plain reading of the format, encoders by round trip and by their promises."""

import json
import struct
import tracemalloc
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from golden import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from parts import head
from regrow.codecs.gridmodel import Context, Model, Neighbour
from regrow.errors import InputError, PackError
from regrow.generator import grow
from regrow.pack import ROLE_WEIGHTS, Part, open_pack
from regrow.reader import Reader
from regrow.weights import Weights
from regrow_host.encode import central, grid, raw

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
ONE = np.array([0.25], np.float32)


def weights_of(part: bytes) -> Weights:
    return Weights(Reader(BytesIO(part), 0, len(part)))


def levels_of(weights: Weights) -> np.ndarray:
    out = np.empty(weights.count, np.int8)
    weights.read_levels(out)
    return out


def floats_of(weights: Weights) -> np.ndarray:
    out = np.empty(weights.count, np.float32)
    weights.read_floats(out)
    return out


def check_against_reference(part: bytes) -> None:
    levels, floats = reference.grow_part(part)
    weights = weights_of(part)
    assert floats_of(weights).tobytes() == floats
    weights.rewind()
    if levels is None:
        with pytest.raises(PackError, match="levels are wanted"):
            levels_of(weights)
    else:
        assert levels_of(weights).tobytes() == levels


@pytest.mark.parametrize("name", EXPECTED)
def test_golden(name: str) -> None:
    wanted = EXPECTED[name]
    with open_pack(GOLDEN / name, [bytes.fromhex(wanted["signer"])]) as pack:
        manifest = pack.manifest
        assert pack.head.id.hex() == wanted["id"]
        for field in ("name", "version", "targets", "arena"):
            assert getattr(manifest, field) == wanted[field]
        assert sum(part.role == ROLE_WEIGHTS for part in manifest.parts) == len(wanted["weights"])
        for entry in wanted["weights"]:
            part = pack.part(ROLE_WEIGHTS, entry["use"], entry["number"])
            check_golden(Weights(pack.reader(part)), entry, part)


def check_golden(weights: Weights, wanted: dict, part: Part) -> None:
    assert part.use == wanted["use"]
    assert weights.codec_name == wanted["codec"]
    for field in ("dtype", "count", "channels", "inner"):
        assert getattr(weights, field) == wanted[field]
    assert sha256(floats_of(weights).tobytes()).hexdigest() == wanted["floats_sha256"]
    if wanted["levels"] is not None:
        weights.rewind()
        levels = levels_of(weights)
        assert levels[:16].tolist() == wanted["levels"]
        assert sha256(levels.tobytes()).hexdigest() == wanted["levels_sha256"]
    if wanted["scales"]:
        scales = np.frombuffer(bytes.fromhex(wanted["scales"]), "<f4")
        assert (weights.scales == scales).all()
        assert weights.scales.shape == (wanted["channels"],)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**31 - 5))
def test_generator(seed: int, start: int) -> None:
    assert grow(seed, np.arange(start, start + 4)).tolist() == [
        reference.grow(seed, i) for i in range(start, start + 4)
    ]


levels_arrays = hnp.arrays(np.int8, st.integers(1, 400), elements=st.integers(-128, 127)) | hnp.arrays(
    np.int8, st.integers(1, 400), elements=st.integers(-2, 2)
)


neighbours = st.builds(Neighbour, st.integers(1, 500) | st.just(20480), st.integers(-128, 127))
contexts = st.builds(Context, st.integers(1, 500) | st.just(4096), st.integers(0, 15), st.integers(0, 15))
models = st.builds(
    Model,
    centre=st.integers(-128, 127),
    reach=st.just(128),
    spread=st.integers(0, 127),
    shape=st.integers(0, 7),
    stripe=st.sampled_from([*range(16, 500, 16), 65520]),
    neighbours=st.lists(neighbours, max_size=3).map(tuple),
    context=st.none() | contexts,
    slope=st.integers(0, 15),
    size=st.integers(0, 120),
)


@given(levels_arrays, models, st.integers(1, 5), st.integers(1, 9))
@settings(deadline=None)
def test_grid_models(levels: np.ndarray, model: Model, channels: int, inner: int) -> None:
    part = grid.encode(levels, np.linspace(0.1, 7, channels, dtype=np.float32), inner, model=model)
    assert (levels_of(weights_of(part)) == levels).all()
    check_against_reference(part)


@given(levels_arrays, st.lists(st.integers(0, 90), max_size=9))
@settings(deadline=None)
def test_grid_in_pieces(levels: np.ndarray, cuts: list[int]) -> None:
    weights = weights_of(grid.encode(levels, ONE))
    for _ in range(2):
        out = bytearray(levels.size)
        view, start = memoryview(out), 0
        for cut in [*cuts, levels.size]:
            weights.read_levels(view[start : start + cut])
            start = min(start + cut, levels.size)
        assert out == levels.tobytes()
        weights.rewind()


@pytest.mark.parametrize("stripe", [96, 2000, 65520])
def test_grid_in_groups_of_stripes(stripe: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many stripes are decoded together, what they look back at is there."""
    levels = np.rint(np.random.default_rng(3).laplace(0, 3, 9000).cumsum() % 90 - 45).astype(np.int8)
    near = Neighbour(1, 60), Neighbour(2300, -9)
    for context in (Context(1, 2, 7), Context(2300, 1, 6)):
        part = grid.encode(levels, ONE, model=Model(3, 128, 50, 4, stripe, near, context, 3, 80))
        for group in (1, 500, 4000, 1 << 19):
            monkeypatch.setattr("regrow.codecs.grid._GROUP", group)
            assert (levels_of(weights_of(part)) == levels).all()


def test_grid_tensors_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever models they have, tensors that are decoded together grow what each grows by itself."""
    random = np.random.default_rng(4)
    near, far = Neighbour(1, 40), Context(1, 2, 9)
    models = [
        Model(0, 128, 40, 4, 304),
        Model(2, 128, 30, 3, 64, (near,)),
        Model(-1, 128, 50, 5, 112, (near, Neighbour(112, 9), Neighbour(250, -7))),
        Model(1, 128, 45, 2, 2000, (), far, 3, 70),
        Model(0, 128, 35, 6, 128, (Neighbour(128, 20),), Context(128, 1, 5), 4, 60),
    ]
    tensors = [
        (np.rint(random.laplace(0, 2, 500 + 137 * number)).astype(np.int8), model)
        for number, model in enumerate(models * 4)
    ]
    parts = [grid.encode(levels, ONE, model=model) for levels, model in tensors]
    for step in (0, 140, 1 << 20):  # all in lock-step, some, none
        monkeypatch.setattr("regrow.codecs.gridstripes._STEP", step)
        monkeypatch.setattr("regrow.codecs.grid._GROUP", 700)
        monkeypatch.setattr("regrow.weights.TOGETHER", 12_000)
        grown = [*map(weights_of, parts), weights_of(raw.encode(tensors[0][0], ONE))]
        for weights, (levels, _) in zip(Weights.side_by_side(grown), [*tensors, tensors[0]], strict=True):
            start = np.empty(9, np.int8)
            weights.read_levels(start)
            assert list(Weights.side_by_side([weights])) == [weights]
            rest = np.empty(levels.size - 9, np.int8)
            weights.read_levels(rest)
            assert (np.concatenate([start, rest]) == levels).all()


@given(levels_arrays, st.integers(1, 5), st.integers(1, 9))
def test_raw_levels(levels: np.ndarray, channels: int, inner: int) -> None:
    part = raw.encode(levels, np.geomspace(1e-9, 1e9, channels).astype(np.float32), inner)
    assert (levels_of(weights_of(part)) == levels).all()
    check_against_reference(part)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_raw_floats(dtype: type) -> None:
    values = np.array([0, -0.0, 1, 1e-7, -65504, 6e-8], dtype)
    weights = weights_of(raw.encode(values))
    assert floats_of(weights).tobytes() == values.astype(np.float32).tobytes()
    assert weights.scales.size == 0
    check_against_reference(raw.encode(values))


def test_raw_refuses_other_types() -> None:
    for values, scales in ((np.zeros(3), None), (np.zeros(3, np.int8), None), (np.zeros(3, np.float32), ONE)):
        with pytest.raises(InputError):
            raw.encode(values, scales)
    with pytest.raises(InputError, match="scale"):
        raw.encode(np.zeros(3, np.int8), np.zeros(1, np.float32))


finite = st.floats(-1e6, 1e6, width=32)
float_arrays = hnp.arrays(np.float32, st.integers(1, 200), elements=finite)


@given(
    float_arrays,
    st.sampled_from([central.LAYER, central.BATCH]),
    st.sampled_from([central.UNIFORM, central.MEAN]),
    st.integers(1, 300),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None)
def test_central(values: np.ndarray, unit: int, restoration: int, batch: int, seed: int) -> None:
    part = central.encode(values, unit, restoration, batch, seed)
    check_against_reference(part)
    weights = weights_of(part)
    grown = floats_of(weights).astype(np.float64)
    weights.rewind()
    spread = np.abs(grown).max()
    assert abs(grown.mean() - values.mean(dtype=np.float64)) <= np.abs(values).max() / 2**14 + 2.0**-113
    assert np.abs(levels_of(weights) * float(weights.scales[0]) - grown).max() <= spread / 127 + 2.0**-113


def test_central_batches_of_one_by_mean_are_the_weights() -> None:
    values = np.linspace(-1, 1, 1000, dtype=np.float32)
    grown = floats_of(weights_of(central.encode(values, central.BATCH, central.MEAN, 1)))
    assert np.abs(grown - values).max() < 2**-15


def test_central_layer_has_the_layer_s_statistics() -> None:
    values = np.random.default_rng(1).normal(0.02, 0.1, 50000).astype(np.float32)
    grown = floats_of(weights_of(central.encode(values, central.LAYER, central.UNIFORM)))
    assert abs(grown.mean() - values.mean()) < 1e-5
    assert grown.max() - grown.min() == pytest.approx(2 * values.std(), rel=1e-3)
    assert len(set(grown.tolist())) > 10000


def test_central_unitary_takes_the_network_s_statistics() -> None:
    values = np.full(5000, 3, np.float32)
    grown = floats_of(weights_of(central.encode(values, central.UNITARY, central.UNIFORM, mean=0, std=0.5)))
    assert grown.mean() == pytest.approx(3, abs=1e-3)
    assert grown.max() - grown.min() == pytest.approx(1, rel=1e-2)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_central_refuses(value: float) -> None:
    with pytest.raises(InputError):
        central.encode(np.array([1, value], np.float32), central.LAYER, central.UNIFORM)


def size(levels: np.ndarray) -> int:
    """Bytes of the body."""
    return len(grid.encode(levels, ONE)) - len(head(2, 0, 1, levels.size, 1, 1)) - 2


def entropy(levels: np.ndarray) -> float:
    """Bytes of the levels, each by itself and without a model."""
    _, counts = np.unique(levels, return_counts=True)
    return -(counts * np.log2(counts / levels.size)).sum() / 8


def test_grid_size_is_near_the_entropy_and_the_estimate() -> None:
    levels = np.rint(np.random.default_rng(2).laplace(0, 2, 40000)).astype(np.int8)
    assert size(levels) < entropy(levels) * 1.01 + 20
    assert size(levels) == pytest.approx(grid.size_estimate(levels), rel=0.01)


def test_grid_of_a_small_tensor_costs_little() -> None:
    levels = np.rint(np.random.default_rng(3).normal(0, 1.5, 200)).astype(np.int8)
    assert size(levels) < 200 * (np.log2(1.5) + 2.05) / 8 + 14
    assert size(np.full(5000, 7, np.int8)) == 2


def test_grid_finds_what_is_alike() -> None:
    """Columns of different spread, and rows that follow others, take less than their entropy."""
    random = np.random.default_rng(4)
    columns = np.rint(random.normal(0, 1, (200, 64)) * np.geomspace(0.1, 8, 64)).astype(np.int8)
    assert size(columns) < 0.85 * entropy(columns)
    rows = np.rint(8 * random.normal(0, 1, (100, 64)).cumsum(axis=0)).clip(-127, 127).astype(np.int8)
    assert size(rows) < 0.75 * entropy(rows)
    assert size(rows) == pytest.approx(grid.size_estimate(rows), rel=0.1)


def test_decoding_needs_little_memory() -> None:
    count = 2_000_000
    levels = (np.arange(count) % 5).astype(np.int8)
    model = Model(2, 3, 40, 7, 2000, (Neighbour(5, 64),), Context(5, 3, 8), 4, 50)
    weights = [weights_of(grid.encode(levels, ONE, model=model)), weights_of(raw.encode(levels, ONE))]
    weights.append(weights_of(central.encode(levels.astype(np.float32), central.BATCH, central.UNIFORM, 2)))
    out = np.empty(count, np.int8)
    for each in weights:
        tracemalloc.start()
        each.read_levels(out)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < (6_000_000 if each.codec_name == "grid" else 2_000_000), each.codec_name


HEADER = bytes([1, 4, 1])


@pytest.mark.parametrize(
    "part",
    [
        head(3, 0, 1, 1, 1, 1) + bytes(5),
        head(0, 3, 0, 1, 1, 1) + bytes(4),
        head(0, 0, 3, 1, 1, 1) + struct.pack("<fb", 1, 1),
        head(0, 0, 2, 0, 1, 1) + struct.pack("<f", 1),
        head(0, 0, 2, 1, 0, 1) + struct.pack("<fb", 1, 1),
        head(0, 0, 2, 2, 2, 0) + struct.pack("<ffbb", 1, 1, 1, 1),
        head(0, 0, 2, 1, 1, 1) + struct.pack("<fb", 0, 1),
        head(0, 0, 2, 1, 1, 1) + struct.pack("<fb", -1, 1),
        head(0, 0, 2, 1, 1, 1) + struct.pack("<fb", np.inf, 1),
        head(0, 0, 2, 1, 1, 1) + struct.pack("<fb", np.nan, 1),
        head(0, 0, 2, 1, 1, 1) + struct.pack("<f", 1),
        head(0, 0, 2, 1, 1, 1) + struct.pack("<fbb", 1, 1, 1),
        head(0, 0, 0, 1, 1, 1) + struct.pack("<b", 1),
        head(0, 0, 1, 1, 1, 1) + struct.pack("<Hb", 0, 1),
        head(0, 0, 1, 1, 1, 1) + struct.pack("<Hb", 0x7F80, 1),
        head(0, 1, 2, 1, 1, 1) + struct.pack("<ff", 1, 1),
        head(0, 0, 2, 2**31 - 1, 65535, 1) + struct.pack("<f", 1),
        HEADER + struct.pack("<BBbBhIIhH", 3, 0, 0, 1, 0, 0, 4, 0, 0),
        HEADER + struct.pack("<BBbBhIIhH", 1, 2, 0, 1, 0, 0, 4, 0, 0),
        HEADER + struct.pack("<BBbBhIIhH", 1, 0, -121, 1, 0, 0, 4, 0, 0),
        HEADER + struct.pack("<BBbBhIIhH", 1, 0, 81, 1, 0, 0, 4, 0, 0),
        HEADER + struct.pack("<BBbBhIIhH", 1, 0, 0, 0, 0, 0, 4, 0, 0),
        HEADER + struct.pack("<BBbBhIIhH", 1, 0, 0, 25, 0, 0, 4, 0, 0),
        HEADER + struct.pack("<BBbBhIIhH", 1, 0, 0, 1, 0, 0, 3, 0, 0),
        HEADER + struct.pack("<BBbBhIIhH", 2, 0, 0, 1, 0, 0, 0, 0, 0),
        HEADER + struct.pack("<BBbBhIIhH", 2, 0, 0, 1, 0, 0, 5, 0, 0),
        HEADER + struct.pack("<BBbBhIIhH", 2, 0, 0, 1, 0, 0, 2, 0, 0),
        HEADER + struct.pack("<BBbBhIIhH", 1, 0, 0, 1, 1, 0, 4, 32767, 0),
        HEADER + struct.pack("<BBbBhIIhH", 1, 0, 0, 1, -1, 0, 4, -32768, 0),
        HEADER + struct.pack("<BBbBhIIhH", 1, 0, 0, 1, 0, 0, 4, 0, 32768),
        HEADER + struct.pack("<BBbBhIIhHb", 1, 0, 0, 1, 0, 0, 4, 0, 0, 0),
    ],
)
def test_bad_part_is_refused(part: bytes) -> None:
    with pytest.raises(PackError):
        levels_of(weights_of(part))


@pytest.mark.parametrize("stripe", [48, 4992])
@pytest.mark.parametrize(
    "change", [lambda p: p[:-2], lambda p: p[:-1], lambda p: p + b"\0\0", lambda p: p + b"\0"]
)
def test_code_must_end_where_the_part_ends(stripe: int, change: object) -> None:
    levels = (np.arange(3000) % 7).astype(np.int8)
    part = change(grid.encode(levels, ONE, model=Model(3, 3, 40, 7, stripe)))  # type: ignore[operator]
    with pytest.raises(PackError):
        levels_of(weights_of(part))


def test_grid_refuses_a_model_that_does_not_reach() -> None:
    with pytest.raises(InputError, match="reach"):
        grid.encode(np.arange(9).astype(np.int8), ONE, model=Model(0, 3, 40, 7, 48))


def test_no_more_weights_than_there_are() -> None:
    weights = weights_of(raw.encode(np.zeros(4, np.int8), ONE))
    with pytest.raises(PackError, match="5 weights are wanted where 4 are left"):
        weights.read_levels(np.empty(5, np.int8))
