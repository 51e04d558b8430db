"""`regrow compare`: other ways beside regrow's, judged alike, as a table, as JSON and as curves."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from regrow.pack import USE_LITERT
from regrow_host import cli, nncodec, tflite
from regrow_host.biases import Biases
from regrow_host.judge import divergence
from regrow_host.layers import Network
from regrow_host.runner import Runner

DEMO = Path(__file__).parents[1] / "demo"
MODEL, EVAL = DEMO / "digits.tflite", DEMO / "digits_eval.npz"

Output = pytest.CaptureFixture[str]


def test_every_method_is_judged_and_drawn(tmp_path: Path, capsys: Output) -> None:
    plot = tmp_path / "curves.svg"
    assert cli.main(["compare", str(MODEL), "--data", str(EVAL), "-o", str(plot), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    points = {}
    for each in result["points"]:
        points.setdefault(each["method"], []).append(each)
    assert {"source", "int8 .tflite", "int8 .tflite, zstd", "regrow auto", "central, mean"} <= points.keys()
    assert points["source"][0]["drop"] == 0
    assert result["samples"] == 300
    auto = [each["bytes"] for each in points["regrow auto"]]
    assert min(auto) < points["int8 .tflite, zstd"][0]["bytes"] / 2
    assert (
        min(each["drop"] for each in points["regrow auto"])
        <= 0.5
        < min(each["drop"] for each in points["central, mean"])
    )
    assert "<svg" in plot.read_text()
    assert list(tmp_path.iterdir()) == [plot]


@pytest.mark.parametrize("name", ["curves.txt", "nowhere/curves.svg"])
def test_a_plot_that_cannot_be_written_is_told_first(name: str, tmp_path: Path, capsys: Output) -> None:
    words = ["compare", str(MODEL), "--data", str(EVAL), "-o", str(tmp_path / name)]
    assert cli.main(words) == 1
    assert name.split("/", maxsplit=1)[0] in capsys.readouterr().err


def test_settings_of_nncodec_follow_the_weights() -> None:
    """Steps from 8 bits a weight up, whatever the weights' unit, the first layer's own included."""
    weights = tflite.weight_tensors(tflite.read(MODEL.read_bytes()))
    settings = nncodec.settings(weights)
    qps = sorted({setting["qp"] for setting in settings})
    spread = np.sqrt(np.mean(np.concatenate([each.values.ravel() ** 2 for each in weights])))
    assert 2.0 ** (qps[0] / 4) < spread / 10
    assert spread < 2.0 ** (qps[-1] / 4) < 4 * spread
    assert any("qp_per_tensor" in setting for setting in settings)


def test_biases_make_up_for_other_weights() -> None:
    """What coarse weights do to the mean outputs is undone, so that nncodec gets regrow's bias correction."""
    with np.load(EVAL) as file:
        x = file["x"][:200].astype(np.float32).reshape(200, *Runner(MODEL.read_bytes()).input_shape)
    network = Network.of(USE_LITERT, tflite.to_float32(tflite.read(MODEL.read_bytes())))
    coarse = {
        each.number: np.floor(each.values / (step := each.values.std() / 4)).astype(np.float32) * step
        for each in tflite.weight_tensors(tflite.read(network.data))
    }
    before = Runner(network.data)(x)
    biases = Biases.of(network.data, x)
    plain, corrected = (
        divergence("top1", before, Runner(each.with_values(coarse))(x))
        for each in (network, replace(network, biases=biases))
    )
    assert corrected < plain / 2


def test_a_python_without_nncodec(tmp_path: Path) -> None:
    assert not nncodec.available(tmp_path / "python")
