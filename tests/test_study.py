"""`regrow study`: experiments on a small model that comes with regrow, kept trials, the report, sentences."""

import json
import os
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import regrow_host
from regrow.errors import InputError
from regrow.reader import Reader
from regrow.weights import Weights
from regrow_host import cli, tflite
from regrow_host.runner import Runner
from regrow_host.study import (
    augmentation,
    centralizing,
    datasets,
    lab,
    models,
    paths,
    quantization,
    ranks,
    remedy,
    subject,
)
from regrow_host.study.command import EXPERIMENTS
from regrow_host.study.tail import Tail, cross_entropy
from regrow_host.study.zeros import without_relus

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def covid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data sets, with one that the COVID model gets nine of ten right, and a cache of its own."""
    random = np.random.default_rng(0)
    x = random.integers(0, 2, (300, 20), np.uint8)
    answers = Runner((subject.TRAINED / "covid-mlp.tflite").read_bytes())(x.astype(np.float32)).argmax(axis=1)
    y = np.where(random.random(len(x)) < 0.1, 1 - answers, answers).astype(np.uint8)
    data = tmp_path / "data"
    data.mkdir()
    np.savez(data / "covid.npz", x_train=x[:0], y_train=y[:0], x_test=x, y_test=y)
    monkeypatch.setenv("REGROW_DATA", str(data))
    monkeypatch.setenv("REGROW_CACHE", str(tmp_path / "cache"))
    return data


def study(capsys: Output, *words: object) -> dict[str, Any]:
    assert cli.main(["study", *map(str, words), "--models", "covid-mlp", "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result["experiments"]


def fails(capsys: Output, *words: object) -> str:
    assert cli.main(["study", *map(str, words)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_whole_study(tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remedy, "STEPS", 100)
    out = tmp_path / "out"
    first = study(capsys, "--out", out)
    assert list(first) == list(EXPERIMENTS)
    original = first["centralization"]["outcomes"]["covid-mlp"]["original"]
    assert original == pytest.approx(90, abs=4)
    packs = first["codecs"]["outcomes"]["covid-mlp"]["packs"]
    assert packs["none"]["bytes"] < packs["central"]["bytes"] / 2
    assert packs["central"]["divergence"] < packs["none"]["divergence"]
    beside = first["codecs"]["outcomes"]["covid-mlp"]["beside"]["none"]
    assert beside["central"]["accuracy"][0] == pytest.approx(packs["none"]["pack"] - packs["central"]["pack"])
    assert beside["pairs"]["log-loss"][1] > 0  # batches of 2 ruin the network, beyond the interval
    assert "trained, mean" in first["remedy"]["outcomes"]["covid-mlp"]["curves"]  # on the source's answers
    page = (out / "report.html").read_text()
    assert all(f'<h2 id="{name}">' in page for name in [*EXPERIMENTS, "comparison"])
    assert "src=" not in page
    assert page.count("<svg") == len(list((out / "figures").glob("*.svg"))) > 9
    assert {path.stem for path in (out / "figures").glob("*.png")} == {
        path.stem for path in (out / "figures").glob("*.svg")
    }
    assert cli.main(["study", "--models", "covid-mlp", "--out", str(tmp_path / "again")]) == 0
    assert "\n0 trials run, " in capsys.readouterr().out
    for name in ("results.json", "report.html"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()


def test_ctrl_c_loses_no_finished_trial(tmp_path: Path, capsys: Output) -> None:
    trials = tmp_path / "cache" / "trials"
    words = [sys.executable, "-m", "regrow_host.cli", "study", "centralization", "--models", "covid-mlp"]
    process = subprocess.Popen(
        [*words, "--out", tmp_path / "out"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while process.poll() is None and len(list(trials.glob("*.json"))) < 20:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (0, 130)
    assert "Traceback" not in errors
    kept = len(list(trials.glob("*.json")))
    assert kept >= 20
    assert cli.main([*words[3:], "--out", str(tmp_path / "out")]) == 0
    found = capsys.readouterr().out.rpartition("run, ")[2].partition(" found")[0]
    assert int(found) >= kept


def test_trials_on_dask_find_what_they_find_here(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import LocalCluster  # noqa: PLC0415 - a second

    words = "quantization", "--out", tmp_path
    here = study(capsys, *words, "--executor", "here")
    monkeypatch.setenv("REGROW_CACHE", str(tmp_path / "other"))
    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address.removeprefix("tcp://")
        assert study(capsys, *words, "--executor", f"dask://{address}") == here


def test_what_is_missing_or_unusable_is_told_in_a_sentence(
    tmp_path: Path, capsys: Output, covid: Path
) -> None:
    assert "no experiment 'zero'" in fails(capsys, "zero")
    assert "no model 'x'" in fails(capsys, "--models", "x")
    assert "name what to train" in fails(capsys, "train")
    assert "published" in fails(capsys, "train", "mlperf-ic")
    assert "train it: regrow study train squeezenet-letters" in fails(
        capsys, "--models", "squeezenet-letters"
    )
    (tmp_path / "file").write_bytes(b"")
    words = "quantization", "--models", "covid-mlp"
    assert "cannot make the folder" in fails(capsys, *words, "--out", tmp_path / "file")
    np.savez(covid / "covid.npz", x_test=np.zeros((20, 3)), y_test=np.zeros(20, int))
    assert "does not fit the study" in fails(capsys, *words)
    (covid / "covid.npz").write_bytes(b"PK")
    assert "cannot be read as an .npz file" in fails(capsys, *words)
    (covid / "covid.npz").unlink()
    assert "the data set covid is missing" in fails(capsys, *words)


def test_a_table_of_yes_and_no_becomes_a_data_set(tmp_path: Path) -> None:
    rows = [",".join(["Yes", "No"] * 10 + ["Yes" if i % 4 else "No"]) for i in range(100)]
    table = tmp_path / "covid.csv"
    table.write_text("\n".join(["," * 20, *rows]))
    data = datasets.from_csv("covid", table)
    assert data.x_train.shape == (80, 20)
    assert data.y_test.mean() == data.y_train.mean() == 0.75
    assert datasets.load("covid").source == "covid.npz"  # REGROW_DATA comes first
    with pytest.raises(InputError, match="needs 20"):
        datasets.from_csv("covid", _written(tmp_path / "short.csv", "1,0,1\n" * 20))
    with pytest.raises(InputError, match="no table"):
        datasets.from_csv("covid", _written(tmp_path / "words.csv", "a,b\nc,d\n"))


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_trials_follow_from_all_code_but_the_study_wherever_it_lies() -> None:
    source = lab._source(regrow_host)
    assert Path(tflite.__file__).read_text("utf-8") in source
    assert Path(ranks.__file__).read_text("utf-8") not in source


def test_flips_change_one_bit_of_as_many_weights_as_asked() -> None:
    values = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    changed = augmentation.flip(values, 77, seed=1).view(np.uint32) ^ values.view(np.uint32)
    assert np.bitwise_count(changed).max() == 1
    assert np.bitwise_count(changed).sum() == 77


def test_rank_correlations() -> None:
    assert ranks.spearman([1, 2, 3, 4], [10, 20, 30, 400]) == pytest.approx(1)
    assert ranks.spearman([1, 2, 3, 4], [5, 5, 5, 5]) == 0
    assert ranks.spearman([1, 2, 2, 3], [4, 3, 3, 1]) == pytest.approx(-1)
    size = [1, 2, 3, 4, 5, 6]
    assert ranks.spearman(size, size) == pytest.approx(1)
    assert ranks.partial_spearman(size, size, size) == 0


def test_changed_weights_are_those_that_the_network_runs_on() -> None:
    one = subject.load(models.find("covid-mlp"), seed=0)
    grown, size = centralizing.centralized(one.layers[1].values, "batch", "mean", 1)
    changed = tflite.weight_tensors(tflite.read(one.with_weights({1: grown})))
    assert np.array_equal(changed[1].values, grown)
    assert np.array_equal(changed[0].values, one.layers[0].values)
    assert size < 2 * grown.size + 50
    rounded = quantization.rounded(one.layers[0], quantization.CHANNEL)
    assert np.abs(rounded - one.layers[0].values).max() <= np.abs(one.layers[0].values).max() / 254
    assert one.accuracy({})["accuracy"] > one.chance


@pytest.mark.parametrize("restore", centralizing.RESTORATIONS)
def test_trained_weights_are_those_that_grow(restore: str) -> None:
    """Means and deviations give the weights that their part grows into, and the right gradients."""
    random = np.random.default_rng(0)
    layer = remedy.Central(random.normal(size=(7, 9)).astype(np.float32), restore, size=4, seed=3)
    part = layer.part()
    grown = np.empty((7, 9), np.float32)
    Weights(Reader(BytesIO(part), 0, len(part))).read_floats(grown)
    assert np.abs(grown - layer.values()).max() < 1e-3
    direction = random.normal(size=(7, 9)).astype(np.float32)
    gradients = dict(zip("ms", layer.gradients(direction), strict=True))
    for name in "ms" if restore == "uniform" else "m":
        before = (layer.values().astype(np.float64) * direction).sum()
        getattr(layer, name)[5] += 0.5
        after = (layer.values().astype(np.float64) * direction).sum()
        assert (after - before) / 0.5 == pytest.approx(gradients[name][5], abs=1e-4)


def test_a_short_training_brings_centralized_weights_back() -> None:
    one = subject.load(models.find("covid-mlp"), seed=0)
    judge = one.searching
    course = remedy.Course(one, judge.samples.x, judge.labels)
    settings = {"restore": "uniform", "size": 16, "seed": 0}
    after, before = (remedy.train(course, settings | {"steps": steps}) for steps in (300, 0))
    assert after["searching"] > before["searching"] + 10
    assert after["bytes"] == before["bytes"]


def test_the_gradients_of_a_tail_with_skips() -> None:
    end = Tail.of((subject.TRAINED / "ann-skip.tflite").read_bytes())
    parameters = {index: value.astype(np.float64) for index, value in end.parameters().items()}
    random = np.random.default_rng(0)
    x = random.random((16, 784)) * 255
    y = end.forward(parameters, x)[end.target].argmax(axis=1)  # type: ignore[arg-type]

    def loss() -> tuple[float, Any, Any]:
        values = end.forward(parameters, x)  # type: ignore[arg-type]
        return *cross_entropy(values[end.target], y), values

    _, outputs, values = loss()
    gradients = end.backward(parameters, values, outputs)  # type: ignore[arg-type]
    assert len(end.weights) == 17
    for index in end.weights[::4]:
        at = tuple(random.integers(0, size) for size in parameters[index].shape)
        sides = []
        for step in (1e-5, -2e-5):
            parameters[index][at] += step
            sides.append(loss()[0])
        parameters[index][at] += 1e-5
        assert gradients[index][at] == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-2, abs=1e-7)


def test_paths_around_layers() -> None:
    skip, plain = ((subject.TRAINED / f"ann-{name}.tflite").read_bytes() for name in ("skip", "plain"))
    assert len(paths.bypassed(skip)) == 15
    assert not paths.bypassed(plain)


def test_a_network_without_relus_is_linear() -> None:
    model = without_relus((subject.TRAINED / "ann-skip.tflite").read_bytes())
    assert not any(each.name == "RELU" for each in tflite.read(model).operators)
    assert Runner(model).input_shape == (1, 784)


@pytest.mark.shared
def test_shared_models_have_their_published_accuracies(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGROW_DATA", str(shared / "data"))
    found = {
        name: subject.load(models.find(name), 0).accuracy({})["accuracy"]
        for name in ("mlperf-ic", "mlperf-kws")
    }
    assert found["mlperf-ic"] == pytest.approx(88.1)
    assert found["mlperf-kws"] == pytest.approx(90, abs=1)
