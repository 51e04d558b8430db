"""Bit allocation on networks of every kind, calibration that is of no use, interruptions, and Dask."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import regrow
from builder import RELU6, Builder
from regrow import probe
from regrow.pack import ROLE_PROBE, USE_EXECUTOR, USE_LITERT, open_pack
from regrow_host import calibration, cli, executors, gptq, job, tflite
from regrow_host.allocation import Allocation, size
from regrow_host.runner import Runner
from regrow_host.tflite import Model

ONE = np.ones(1)
DEMO = Path(__file__).parents[1] / "demo"
EVAL, CALIB, MODEL = DEMO / "digits_eval.npz", DEMO / "digits_calib.npz", DEMO / "digits.tflite"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGROW_HOME", str(tmp_path / "home"))


def mlp() -> Builder:
    net = Builder((1, 12), "float32")
    for _ in range(4):
        net.dense(32, activation=RELU6)
    return net.dense(6).softmax()


def inverted_residuals() -> Builder:
    """MobileNetV2 in small."""
    net = Builder((1, 16, 16, 3), "float32").conv(8, stride=2, activation=RELU6)
    for _ in range(2):
        skipped = net.last
        net.conv(24, size=1, activation=RELU6).depthwise(activation=RELU6)
        net.conv(8, size=1, activation=0).add(skipped)
    return net.pool(size=8, stride=8).reshape(1, 8).dense(6).softmax()


def with_zeros() -> Builder:
    net = mlp()
    weights = tflite.weight_tensors(net.model())[2]
    net.tensors[weights.tensor].data = np.zeros(weights.shape, np.float32)
    return net


def single() -> Builder:
    return Builder((1, 12), "float32").dense(6)


def equal_channels() -> Builder:
    net = Builder((1, 8, 8, 3), "float32").conv(8).conv(8).pool(size=8, stride=8).reshape(1, 8).dense(6)
    for weights in tflite.weight_tensors(net.model())[:2]:
        net.tensors[weights.tensor].data = np.repeat(weights.values[:1], weights.channels, axis=0)
    return net


def regressor() -> Builder:
    return Builder((1, 12), "float32").dense(32, activation=RELU6).dense(1)


def dynamic() -> Builder:
    return Builder((1, 8, 8, 3), "dynamic").conv(8).pool(size=8, stride=8).reshape(1, 8).dense(6).softmax()


def integer() -> Builder:
    return Builder((1, 8, 8, 3), "int8").conv(8).depthwise().pool(size=8, stride=8).reshape(1, 8).dense(6)


KINDS = mlp, inverted_residuals, with_zeros, single, equal_channels, regressor, dynamic, integer


def write_samples(folder: Path, model: Model, *, labels: bool, count: int = 300) -> Path:
    """Samples as smooth as real ones; the labels are what the source says, but for one in ten."""
    random = np.random.default_rng(1)
    shape = model.tensors[model.inputs[0]].shape[1:]
    x = random.normal(size=(count, *shape)).astype(np.float32)
    x = 0.5 * x + random.normal(size=(count, *[1] * len(shape))).astype(np.float32)
    arrays = {"x": x}
    if labels:
        answers = Runner(tflite.build(model))(x).reshape(count, -1)
        if answers.shape[1] == 1:
            arrays["y"] = answers[:, 0]
        else:
            y = answers.argmax(axis=1)
            arrays["y"] = np.where(random.random(count) < 0.1, (y + 1) % answers.shape[1], y)
    path = folder / "samples.npz"
    np.savez(path, **arrays)
    return path


def compress(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, object]:
    capsys.readouterr()
    assert cli.main(["compress", *map(str, words), "--json"]) == 0
    result: dict[str, object] = json.loads(capsys.readouterr().out)
    return result


def check_runs(path: Path) -> None:
    with open_pack(path) as pack:
        for use, backend in {USE_LITERT: "litert", USE_EXECUTOR: "numpy"}.items():
            if use & pack.manifest.targets:
                with regrow.load(pack, backend) as network:
                    probe.run(network, pack.reader(pack.part(ROLE_PROBE, use)))


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_network(
    kind: Callable[[], Builder], labels: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = kind().model()
    path, out = tmp_path / "m.tflite", tmp_path / "m.rgp"
    path.write_bytes(tflite.build(model))
    samples = write_samples(tmp_path, model, labels=labels)
    result = compress(capsys, path, "--data", samples, "-o", out, "--max-drop", "5")
    check_runs(out)
    assert result["labels"] == labels
    floats = 4 * sum(each.count for each in tflite.weight_tensors(model))
    assert float(str(result["weights_bytes"])) < floats
    drop, low, high = (float(str(result[name])) for name in ("drop", "low", "high"))
    assert low <= drop <= high
    runtimes = result["runtimes"]
    assert isinstance(runtimes, dict)
    first = next(iter(runtimes.values()))
    assert first["drop"] <= 5


def test_rounding_undoes_on_later_weights_what_it_did_to_those_before() -> None:
    """On inputs that depend on each other what a layer gives errs far less than with the nearest levels."""
    random = np.random.default_rng(0)
    x = (random.normal(size=(2000, 8)) @ random.normal(size=(8, 64)) + 1).astype(np.float32)[None]
    values = random.normal(size=(16, 64))
    rounded, nearest = gptq.fit(values, ONE, x, x, biased=True), gptq.plain(values, ONE)

    def error(levels: np.ndarray, shift: np.ndarray) -> float:
        return float(np.square(x[0] @ (levels - values).T + shift).mean())

    assert error(rounded.levels, rounded.shift) < 0.1 * error(nearest.levels, nearest.shift)


def test_the_bias_takes_the_mean_error() -> None:
    random = np.random.default_rng(0)
    before = random.normal(3, 1, (1, 500, 9)).astype(np.float32)
    now = before + 0.5
    values = random.normal(size=(4, 9))
    rounded = gptq.fit(values, ONE / 2, before, now, biased=True)
    given = now[0] @ (0.5 * rounded.levels.astype(np.float64)).T + rounded.shift
    assert np.allclose(given.mean(axis=0), (before[0] @ values.T).mean(axis=0), atol=1e-4)


def test_few_samples_of_many_inputs_round_as_more_that_repeat_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which inverts a small matrix in place of a large one."""
    monkeypatch.setattr(gptq, "WIDE", 0.0)  # what goes by their number
    random = np.random.default_rng(0)
    source = random.normal(size=(1, 12, 80)).astype(np.float32)
    now = source + 0.1 * random.normal(size=source.shape).astype(np.float32)
    values = random.normal(size=(8, 80))
    few, many = (
        gptq.fit(values, ONE / 2, np.tile(source, (1, n, 1)), np.tile(now, (1, n, 1)), biased=True)
        for n in (1, 8)
    )
    assert np.array_equal(few.levels, many.levels)
    assert np.allclose(few.shift, many.shift, atol=1e-5)


def test_few_samples_of_many_inputs_round_well_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Levels are not fitted to what is chance in them."""
    random = np.random.default_rng(0)
    mixed = random.normal(size=(100, 200)) * np.geomspace(1, 0.3, 100)[:, None]
    x, others = ((random.normal(size=(n, 100)) @ mixed).astype(np.float32)[None] for n in (80, 2000))
    values = random.normal(size=(16, 200))

    def error() -> float:
        levels = gptq.fit(values, ONE, x, x, biased=False).levels
        return float(np.square(others[0] @ (levels - values).T).mean())

    held = error()
    monkeypatch.setattr(gptq, "WIDE", 0.0)
    assert held < 0.8 * error()


def test_after_an_interruption_the_safer_trials_come_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which held-out samples may want."""
    work = job.prepare(MODEL, EVAL, None, metric="top1", target="pi", max_drop=5, seed=0)

    def interrupted(allocation: Allocation, allowed: float) -> None:
        for damage in (0.01, 0.0001, 0.001):
            list(allocation._try([damage]))
        raise KeyboardInterrupt

    monkeypatch.setattr(Allocation, "_search", interrupted)
    with executors.open_executor("here") as executor:
        sizes = [size(each) for each in Allocation(work, work.layers, executor).choices(every_codec=True)]
    assert len(sizes) == 3
    assert sizes == sorted(sizes)


def test_calibration_samples_unlike_the_data_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    noise = tmp_path / "noise.npz"
    np.savez(noise, x=random.uniform(0, 16, (300, 8, 8, 1)))
    words = MODEL, "--data", EVAL, "-o", tmp_path / "o.rgp", "--target", "pi", "--max-drop", "1"
    noisy = compress(capsys, *words, "--calib", noise)
    assert "do not look like" in str(noisy["warnings"])
    without = compress(capsys, *words)
    assert "do not look like" not in str(without["warnings"])
    assert noisy["weights_bytes"] == without["weights_bytes"]
    good = compress(capsys, *words, "--calib", CALIB)
    assert "do not look like" not in str(good["warnings"])


def test_few_samples_round_to_the_nearest_levels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = tmp_path / "few.npz"
    x, y = np.load(EVAL)["x"], np.load(EVAL)["y"]
    np.savez(few, x=x[:60], y=y[:60])
    words = MODEL, "--data", few, "-o", tmp_path / "o.rgp", "--target", "pi"
    assert "too few to fit levels to" in str(compress(capsys, *words)["warnings"])
    predict = Runner(MODEL.read_bytes())
    images = x.astype(np.float32)
    fitted, aware, warning = calibration.choose(images[:30], images[100:300], 4096, 0, predict)
    assert (len(fitted), aware) == (230, True)
    assert warning == ""


@pytest.mark.parametrize(
    ("seconds", "number"),
    [
        (1.5, "SIGINT"),
        (3, "SIGINT"),
        (5, "SIGINT"),
        (7, "SIGINT"),
        (2, "SIGTERM"),
        (6, "SIGTERM"),
        (5, "SIGKILL"),
    ],
)
def test_an_interruption_leaves_a_valid_pack_or_none(
    seconds: float, number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, temporary = tmp_path / "o.rgp", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    words = ["compress", MODEL, "--data", EVAL, "--calib", CALIB, "-o", out, "--executor", "processes"]
    command = [sys.executable, "-m", "regrow_host.cli", *map(str, words)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    time.sleep(seconds)
    # A terminal sends SIGINT to all processes, a service manager or a user the others to one.
    (os.killpg if number == "SIGINT" else os.kill)(process.pid, getattr(signal, number))
    _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    if out.exists():  # the signal may also come when all is done and Python is about to leave
        check_runs(out)
    else:
        assert process.returncode in (130, -getattr(signal, number))
    for _ in range(300):
        if not any_left(process.pid) and not any(temporary.iterdir()):
            break
        time.sleep(0.1)
    assert not any_left(process.pid)
    assert list(temporary.iterdir()) == []
    assert [path for path in tmp_path.iterdir() if path.name not in ("o.rgp", "home", "temporary")] == []


def any_left(group: int) -> bool:
    """Whether a process of the group still runs."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_search_on_processes_and_on_dask_finds_what_it_finds_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from distributed import LocalCluster  # noqa: PLC0415 - a second

    words = MODEL, "--data", EVAL, "--calib", CALIB, "--target", "pi", "-o", tmp_path / "o.rgp"
    here = compress(capsys, *words, "--executor", "here")
    processes = compress(capsys, *words, "--executor", "processes")
    assert processes["drop"] <= 0.5  # type: ignore[operator]
    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address.removeprefix("tcp://")
        dask = compress(capsys, *words, "--executor", f"dask://{address}")
    assert dask["weights_bytes"] == here["weights_bytes"]


def test_executors_that_do_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compress", str(MODEL), "--data", str(EVAL), "-o", str(tmp_path / "o.rgp")]
    assert cli.main([*words, "--executor", "dask"]) == 1
    assert "neither processes nor dask://HOST:PORT" in capsys.readouterr().err
