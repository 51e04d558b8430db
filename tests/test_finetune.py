"""Rounded weights tuned against their source."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import regrow
from regrow.pack import USE_LITERT
from regrow_host import cli, curvature, finetune, options, plans, quantize, tflite
from regrow_host.finetune import Tuning
from regrow_host.judge import divergence
from regrow_host.kerasnet import KerasNetwork
from regrow_host.layers import Network
from regrow_host.options import Layer, Option
from regrow_host.runner import Runner

DEMO = Path(__file__).parents[1] / "demo"
MODEL = DEMO / "digits.tflite"
EVAL = DEMO / "digits_eval.npz"
X = np.load(DEMO / "digits_calib.npz")["x"].astype(np.float32)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGROW_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(finetune, "DRAWN", 512)
    monkeypatch.setattr(curvature, "SAMPLES", 512)


def _start() -> tuple[dict[int, Layer], dict[int, Option]]:
    """The network's layers, and each rounded to about 3 bits."""
    layers, chosen = {}, {}
    for each in tflite.weight_tensors(tflite.read(MODEL.read_bytes())):
        figures = each.number, each.name, each.kind, each.channels, each.inner, each.values
        layer = layers[each.number] = Layer(*figures, "float32", None, None, np.zeros(1, np.float32))
        step = np.float32(each.values.std() / 2)
        levels = np.rint(each.values / step).clip(-127, 127).astype(np.int8)
        chosen[each.number] = options.gridded(layer, levels, np.array([step]))
    return layers, chosen


def _tuning(steps: int) -> Tuning:
    layers, chosen = _start()
    return Tuning(MODEL.read_bytes(), X, layers, chosen, classifier=True, steps=steps)


def test_a_network_in_keras_gives_what_litert_gives() -> None:
    source = MODEL.read_bytes()
    got = np.asarray(KerasNetwork(tflite.read(source))(X[:32], {}))
    np.testing.assert_allclose(got, Runner(source)(X[:32]), atol=1e-5)


def test_an_interrupted_tuning_goes_on_where_it_was_and_ends_the_same(tmp_path: Path) -> None:
    def stop(done: int) -> None:
        if done == 12:
            raise KeyboardInterrupt

    interrupted = _tuning(20)
    with pytest.raises(KeyboardInterrupt):
        interrupted.run(stop)
    steps: list[int] = []
    resumed = _tuning(20)
    resumed.run(steps.append)
    assert steps[0] == 13
    for file in (tmp_path / "home" / "tunings").iterdir():
        file.unlink()
    whole = _tuning(20)
    whole.run()
    for number, option in whole.options().items():
        np.testing.assert_array_equal(option.levels, resumed.options()[number].levels)
        np.testing.assert_array_equal(option.values, resumed.options()[number].values)


def _moved(chosen: dict[int, Option]) -> float:
    """How far the outputs of the evaluation samples are from the source's."""
    source, x = MODEL.read_bytes(), np.load(EVAL)["x"].astype(np.float32)
    network = Network.of(USE_LITERT, source)
    return divergence("top1", Runner(source)(x), Runner(network.with_options(chosen))(x))


def _size(chosen: dict[int, Option]) -> float:
    return sum(each.size for each in chosen.values())


def test_tuning_brings_the_outputs_back_at_the_same_bytes() -> None:
    _, chosen = _start()
    tuning = _tuning(100)
    tuning.run()
    tuned = tuning.options()
    assert _size(tuned) < 1.02 * _size(chosen)
    assert _moved(tuned) < 0.8 * _moved(chosen)


def test_rounding_anew_brings_the_outputs_back_and_is_done_once() -> None:
    _, chosen = _start()
    tuning = _tuning(2)
    layers: list[int] = []
    tuning.round(layers.append)
    assert layers == [*range(1, tuning.layers + 1)]
    rounded = tuning.options()
    assert _size(rounded) < 1.02 * _size(chosen)
    assert _moved(rounded) < 0.1 * _moved(chosen)
    tuning.run()
    resumed = _tuning(2)
    resumed.round(layers.append)
    assert len(layers) == tuning.layers
    for number, option in tuning.options().items():
        np.testing.assert_array_equal(option.values, resumed.options()[number].values)


def test_tuning_that_does_not_help_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune, "LEVEL_RATE", 1.0)
    _, chosen = _start()
    tuning = _tuning(20)
    tuning.run()
    for number, option in tuning.options().items():
        np.testing.assert_array_equal(option.levels, chosen[number].levels)


def test_a_pack_of_tuned_plans_runs_and_is_no_larger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the search reaches its coarsest levels by itself: tuning cannot be sure to find fewer bytes."""
    monkeypatch.setattr(finetune, "STEPS", 50)
    monkeypatch.setattr(plans, "TUNED_DAMAGES", (3.0,))

    def compress(*more: str) -> dict[str, Any]:
        words = ["compress", str(MODEL), "--data", str(EVAL), "--calib", str(DEMO / "digits_calib.npz")]
        words += [
            "-o",
            str(tmp_path / "out.rgp"),
            *["--codec", "grid", "--target", "pi", "--json", "--max-drop", "3"],
            *more,
        ]
        assert cli.main(words) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    plain, tuned = compress(), compress("--finetune")
    assert tuned["weights_bytes"] <= plain["weights_bytes"]
    assert len(tuned["tried"]) == len(plain["tried"]) + 1
    assert tuned["drop"] <= 3
    data = np.load(EVAL)
    answers = regrow.load(str(tmp_path / "out.rgp")).predict(data["x"].astype(np.float32))
    assert (answers.reshape(len(answers), -1).argmax(axis=1) == data["y"].ravel()).mean() > 0.95


def test_networks_that_cannot_be_trained_are_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compress", str(MODEL), "--data", str(EVAL), "-o", str(tmp_path / "out.rgp"), "--finetune"]
    assert cli.main([*words, "--codec", "central"]) == 1
    assert "--finetune tunes levels" in capsys.readouterr().err
    integers = tmp_path / "int8.tflite"
    integers.write_bytes(quantize.quantize(MODEL.read_bytes(), X))
    words[1] = str(integers)
    assert cli.main(words) == 1
    assert "only float32 weights" in capsys.readouterr().err
