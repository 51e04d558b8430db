"""`regrow compress` from sources of every precision to packs that run, and the search it does."""

import copy
from pathlib import Path

import mlperf
import numpy as np
import pytest
import regrow
from regrow import probe
from regrow.pack import ROLE_PROBE, ROLE_WEIGHTS, USE_BOTH, USE_EXECUTOR, USE_LITERT, open_pack
from regrow_host import cli, decode, evaluate, inspect, quantize, search, tflite
from regrow_host.runner import Runner

DEMO = Path(__file__).parents[1] / "demo"
EVAL = DEMO / "digits_eval.npz"
CALIB = DEMO / "digits_calib.npz"
BACKENDS = {USE_LITERT: "litert", USE_EXECUTOR: "numpy"}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGROW_HOME", str(tmp_path / "home"))


def float16(source: bytes) -> bytes:
    """The same network with float16 weights behind DEQUANTIZE operators, as converters write it."""
    model = tflite.read(source)
    graph = model.subgraphs[0]
    for weights in tflite.weight_tensors(model):
        tensor = graph.tensors[weights.tensor]
        half = copy.copy(tensor)
        half.dtype, half.data = "float16", weights.values.astype(np.float16)
        tensor.data = None
        graph.tensors.append(half)
        dequantize = tflite.Operator(
            tflite.OPERATOR_CODES["DEQUANTIZE"], (len(graph.tensors) - 1,), (weights.tensor,), version=3
        )
        graph.operators.insert(0, dequantize)
    return tflite.build(model)


def dynamic(source: bytes) -> bytes:
    """The same network with int8 weights and float activations."""
    model = tflite.read(source)
    for weights in tflite.weight_tensors(model):
        if weights.kind == "depthwise":
            continue
        tensor = model.tensors[weights.tensor]
        scale = np.abs(weights.values).max() / 127
        tensor.dtype, tensor.data = "int8", np.rint(weights.values / scale).astype(np.int8)
        tensor.scales, tensor.zero_points = np.array([scale], np.float32), np.zeros(1, np.int64)
    return tflite.build(model)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    source = (DEMO / "digits.tflite").read_bytes()
    calibration = np.load(CALIB)["x"].astype(np.float32)
    made = {
        "float32": source,
        "float16": float16(source),
        "dynamic": dynamic(source),
        "int8": quantize.quantize(source, calibration),
    }
    folder = tmp_path_factory.mktemp("models")
    for precision, model in made.items():
        assert tflite.precision(tflite.read(model)) == precision
        (folder / f"{precision}.tflite").write_bytes(model)
    return {precision: folder / f"{precision}.tflite" for precision in made}


def compress(model: Path, out: Path, *options: str) -> int:
    return cli.main(
        ["compress", str(model), "--data", str(EVAL), "--calib", str(CALIB), "-o", str(out), *options]
    )


def check(pack_path: Path, source: Path) -> None:
    """Every target runs, passes its probe, and equals what `eval` and `inspect` say of it."""
    with open_pack(pack_path) as pack:
        for use, backend in BACKENDS.items():
            if use & pack.manifest.targets:
                with regrow.load(pack, backend) as network:
                    probe.run(network, pack.reader(pack.part(ROLE_PROBE, use)))
                result = evaluate.evaluate(pack_path, EVAL, backend=backend)
                named = evaluate.evaluate(pack_path, EVAL, source=source, backend=backend)
                assert result == named
                assert result["source"] > 0.95
                assert result["drop"] == pytest.approx(100 * (result["source"] - result["pack"]))
    counted = inspect.inspect(pack_path)
    assert counted["head"] + sum(part["bytes"] for part in counted["parts"]) == pack_path.stat().st_size


@pytest.mark.parametrize("target", ["pi", "board", "both"])
@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic", "int8"])
def test_every_precision_and_target(
    models: dict[str, Path], tmp_path: Path, precision: str, target: str
) -> None:
    out = tmp_path / "out.rgp"
    assert compress(models[precision], out, "--target", target, "--codec", "grid", "--max-drop", "1") == 0
    check(out, models[precision])
    assert out.stat().st_size < models[precision].stat().st_size
    with open_pack(out) as pack:
        integer_on_pi = precision == "int8" and target == "pi"
        expected = {"pi": USE_LITERT, "board": USE_EXECUTOR, "both": USE_BOTH}[target]
        assert pack.manifest.targets == (USE_BOTH if integer_on_pi else expected)


@pytest.mark.parametrize("codec", ["raw", "auto", "central"])
def test_other_codecs(models: dict[str, Path], tmp_path: Path, codec: str) -> None:
    out = tmp_path / "out.rgp"
    assert compress(models["float32"], out, "--codec", codec, "--max-drop", "2") == 0
    check(out, models["float32"])


def test_raw_takes_two_parts_a_tensor_and_loses_nothing_on_litert(
    models: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.rgp"
    assert compress(models["float32"], out, "--codec", "raw") == 0
    with open_pack(out) as pack:
        uses = [part.use for part in pack.manifest.parts if part.role == ROLE_WEIGHTS and part.number == 0]
        assert uses == [USE_LITERT, USE_EXECUTOR]
        grown = Runner(decode.decode(pack))
    x = np.load(EVAL)["x"][:20].astype(np.float32)
    assert np.array_equal(grown(x), Runner(models["float32"].read_bytes())(x))


def test_boards_grow_what_the_reference_kernels_run(models: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.rgp"
    assert compress(models["float32"], out, "--target", "board", "--codec", "grid", "--max-drop", "1") == 0
    x = np.load(EVAL)["x"][:20].astype(np.float32)
    with open_pack(out) as pack, regrow.load(pack, "numpy") as network:
        assert np.array_equal(network.predict(x), Runner(decode.decode(pack), reference=True)(x))


def test_the_same_seed_gives_the_same_pack(models: dict[str, Path], tmp_path: Path) -> None:
    packs = []
    for name in ("a", "b"):
        assert compress(models["int8"], tmp_path / name, "--codec", "central", "--batch-size", "8") == 0
        packs.append((tmp_path / name).read_bytes())
    assert packs[0] == packs[1]


def test_central_says_plainly_where_it_ruins_accuracy(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.rgp"
    options = "--codec", "central", "--layers", "all"
    assert compress(models["float32"], out, *options, "--unit", "layer") == 1
    assert "central ruins accuracy" in capsys.readouterr().err
    assert not out.exists()
    assert compress(models["float32"], out, *options, "--batch-size", "1000") == 0
    assert "warning: central weights of batches of 1000 loses" in capsys.readouterr().err
    check(out, models["float32"])


@pytest.mark.parametrize("unit", ["unitary", "layer"])
def test_units(models: dict[str, Path], tmp_path: Path, unit: str) -> None:
    out = tmp_path / "out.rgp"
    assert compress(models["float32"], out, "--codec", "central", "--unit", unit, "--max-drop", "100") == 0
    with open_pack(out) as pack:
        assert pack.part(ROLE_WEIGHTS, USE_BOTH, 4).size < 40


def test_layers_that_are_not_chosen_stay(models: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.rgp"
    assert compress(models["float32"], out, "--codec", "grid", "--layers", "2,3", "--max-drop", "1") == 0
    parts = inspect.inspect(out)["parts"]
    assert {part["codec"] for part in parts if part["number"] in (2, 3)} == {"grid"}
    assert {part["codec"] for part in parts if part["number"] in (0, 1, 4)} == {"raw"}


def rated(*points: tuple[float, float]) -> list[search.Candidate]:
    return [search.Candidate(size, damage) for size, damage in points]


def test_bytes_are_traded_for_damage() -> None:
    layers = [rated((100, 0), (50, 1), (10, 9)), rated((80, 0), (40, 3), (30, 9))]

    def sizes(damage: float) -> list[float]:
        return [each.size for each in search.within(layers, damage)]

    assert search.damages(layers) == (0, 18)
    assert sizes(0) == [100, 80]
    assert sizes(4) == [50, 40]
    assert sizes(18) == [10, 30]


@pytest.mark.parametrize("power", [0.6, 1.0, 1.8])
@pytest.mark.parametrize("workers", [1, 2, 8])
def test_the_search_finds_the_most_damage_within_the_drop(power: float, workers: int) -> None:
    """Drops go by a power of the damage here, give or take a quarter by chance."""
    layers = [rated(*((100.0 / 1.1**i, 1e-4 * 1.08**i) for i in range(160)))]
    random = np.random.default_rng(workers)
    trials: list[search.Trial] = []
    for spread in (*search.SPREADS, *[search.SPREADS[-1]] * 20):
        damages = search.damages_to_try(layers, trials, 0.5, workers, spread)
        for damage in damages:
            noise = float(np.exp(random.normal(0, 0.25)))
            trials.append(search.Trial(damage, damage, noise * damage**power, 1 / damage))
        if not damages or (len(trials) >= search.TRIALS and search.settled(layers, trials, 0.5)):
            break
    best = search.held(trials, 0.5)
    assert best is not None
    assert 0.25 < best.damage**power < 0.75


def test_where_nothing_holds_there_is_no_best() -> None:
    assert search.held([], 0.5) is None
    assert search.held([search.Trial(d, d, 2.0, 1 / d) for d in (0.01, 0.1, 1.0)], 0.5) is None


@pytest.mark.parametrize("limit", [1, 2, 3, 63, 64, 65, 700, 1000])
def test_threshold_finds_the_limit(limit: int) -> None:
    tried = []

    def holds(size: int) -> bool:
        tried.append(size)
        return size <= limit

    found = search.threshold(1000, holds)
    assert found is not None
    assert found <= limit < found * 1.01 + 1
    assert len(tried) <= 20


def test_threshold_takes_the_largest_that_holds_though_smaller_ones_fail() -> None:
    assert search.threshold(1000, lambda size: size in (1, 64)) == 64
    assert search.threshold(1000, lambda size: False) is None
    assert search.threshold(1, lambda size: True) == 1


def compress_shared(shared: Path, folder: Path, name: str, model: str, *options: str) -> tuple[int, Path]:
    out = folder / f"{name}.rgp"
    given = ["--data", str(mlperf.write(shared, folder, name)), "-o", str(out)]
    return cli.main(["compress", str(shared / f"models/mlperf_{model}.tflite"), *given, *options]), out


@pytest.mark.shared
def test_the_keyword_spotter_with_int8_convolutions_in_a_float_model(shared: Path, tmp_path: Path) -> None:
    code, out = compress_shared(shared, tmp_path, "kws", "kws_dscnn_float", "--codec", "grid")
    assert code == 0
    assert out.stat().st_size < 30_000


@pytest.mark.shared
def test_clips_of_windows_are_judged_by_auc(shared: Path, tmp_path: Path) -> None:
    options = "--codec", "central", "--target", "pi", "--batch-size", "1"
    code, out = compress_shared(shared, tmp_path, "ad", "ad_autoencoder_float", *options)
    assert code == 0
    result = evaluate.evaluate(out, tmp_path / "ad.npz")
    assert (result["metric"], result["samples"]) == ("auc", 128)
    assert result["pack"] == pytest.approx(result["source"], abs=1e-3)


@pytest.mark.shared
def test_centralizing_convolutions_ruins_accuracy(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--codec", "central", "--layers", "all", "--unit", "layer", "--target", "pi"
    code, out = compress_shared(shared, tmp_path, "ic", "ic_resnet8_float", *options)
    assert code == 1
    assert not out.exists()
    assert "central ruins accuracy" in capsys.readouterr().err
