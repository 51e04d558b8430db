"""The `regrow` command: every failure is one sentence and an exit code, with nothing written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from regrow_host import cli, console, tflite

DEMO = Path(__file__).parents[1] / "demo"
MODEL, EVAL, CALIB = DEMO / "digits.tflite", DEMO / "digits_eval.npz", DEMO / "digits_calib.npz"

Stderr = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGROW_HOME", str(tmp_path / "home"))


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    out = tmp_path / "digits.rgp"
    words = [
        "compress",
        MODEL,
        "--data",
        EVAL,
        "--calib",
        CALIB,
        "--codec",
        "central",
        "--batch-size",
        "4",
        "-o",
        out,
    ]
    assert regrow(*words) == 0
    return out


def regrow(*words: object) -> int:
    return cli.main([str(word) for word in words])


def fails(capsys: Stderr, *words: object) -> str:
    """Runs the command, which must fail with one sentence on stderr; returns the sentence."""
    capsys.readouterr()
    assert regrow(*words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if "warning:" not in line]
    assert len(lines) == 1
    assert lines[0].startswith("regrow: ")
    return lines[0]


def test_help_is_quick_and_names_every_command(capsys: Stderr) -> None:
    assert regrow("--help") == 0
    said = capsys.readouterr().out
    assert all(command in said for command in cli.COMMANDS)
    imports = "import sys; from regrow_host.cli import main; main(['--help']); print('rich' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", imports], text=True).endswith("False\n")


@pytest.mark.parametrize("words", [[], ["frobnicate"], ["compress"], ["compress", "m", "--codec", "zip"]])
def test_wrong_usage(words: list[str], capsys: Stderr) -> None:
    assert regrow(*words) == 2
    error = capsys.readouterr().err
    assert error.startswith("regrow")
    assert "--help" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "option",
    [
        ["--max-drop", "-1"],
        ["--max-drop", "nan"],
        ["--max-drop", "lots"],
        ["--batch-size", "0"],
        ["--batch-size", "x"],
        ["--layers", "some"],
    ],
)
def test_wrong_options(option: list[str], tmp_path: Path, capsys: Stderr) -> None:
    assert regrow("compress", MODEL, "--data", EVAL, "-o", tmp_path / "o.rgp", *option) == 2
    error = capsys.readouterr().err
    assert f"argument {option[0]}" in error
    assert error.count("\n") == 1


def compress_fails(capsys: Stderr, tmp_path: Path, model: Path, data: Path, *options: object) -> str:
    before = sorted(path for path in tmp_path.iterdir() if path.name != "home")
    sentence = fails(capsys, "compress", model, "--data", data, "-o", tmp_path / "out.rgp", *options)
    assert sorted(path for path in tmp_path.iterdir() if path.name != "home") == before
    return sentence


def test_files_that_are_no_model(tmp_path: Path, capsys: Stderr) -> None:
    for content in (b"", b"plain text, not a model", MODEL.read_bytes()[:5000]):
        (tmp_path / "bad.tflite").write_bytes(content)
        assert "bad.tflite" in compress_fails(capsys, tmp_path, tmp_path / "bad.tflite", EVAL)
    assert "none.tflite" in compress_fails(capsys, tmp_path, tmp_path / "none.tflite", EVAL)


def test_weights_that_are_no_numbers(tmp_path: Path, capsys: Stderr) -> None:
    model = tflite.read(MODEL.read_bytes())
    weights = tflite.weight_tensors(model)[0]
    model.tensors[weights.tensor].data = np.full_like(weights.values, np.nan)
    (tmp_path / "nan.tflite").write_bytes(tflite.build(model))
    sentence = compress_fails(capsys, tmp_path, tmp_path / "nan.tflite", EVAL)
    assert f"the weights {weights.name} are not all finite numbers" in sentence


def test_an_operator_no_board_runs_is_named_with_its_place(tmp_path: Path, capsys: Stderr) -> None:
    model = tflite.read(MODEL.read_bytes())
    last = model.operators[-1]
    model.tensors.append(tflite.Tensor("powered", model.tensors[last.outputs[0]].shape, "float32"))
    power = tflite.Operator(tflite.OPERATOR_CODES["LOG"], last.outputs, (len(model.tensors) - 1,))
    model.operators.append(power)
    model.subgraphs[0].outputs = power.outputs
    path = tmp_path / "log.tflite"
    path.write_bytes(tflite.build(model))
    sentence = compress_fails(capsys, tmp_path, path, EVAL, "--target", "board", "--calib", CALIB)
    assert f"operator {len(model.operators) - 1} (LOG)" in sentence


def test_samples_that_do_not_fit(tmp_path: Path, capsys: Stderr) -> None:
    x, y = np.load(EVAL)["x"], np.load(EVAL)["y"]

    def sentence(**arrays: np.ndarray) -> str:
        np.savez(tmp_path / "e.npz", **arrays)
        return compress_fails(capsys, tmp_path, MODEL, tmp_path / "e.npz")

    assert "no array x" in sentence(samples=x, y=y)
    assert "(8, 7, 1)" in sentence(x=x[:, :, 1:], y=y)
    assert "0..9" in sentence(x=x, y=y.astype(int) + 1)
    assert "at least 10" in sentence(x=x[:5], y=y[:5])


def test_targets_that_cannot_be(tmp_path: Path, capsys: Stderr) -> None:
    assert "no weight tensor 9" in compress_fails(capsys, tmp_path, MODEL, EVAL, "--layers", "1,9")
    assert "name" in compress_fails(capsys, tmp_path, MODEL, EVAL, "--name", "a/b")
    assert "version" in compress_fails(capsys, tmp_path, MODEL, EVAL, "--version", "0")
    assert "folder" in fails(capsys, "compress", MODEL, "--data", EVAL, "-o", tmp_path / "no" / "out.rgp")


def test_packs_that_are_damaged(pack: Path, tmp_path: Path, capsys: Stderr) -> None:
    whole = pack.read_bytes()
    bad = tmp_path / "bad.rgp"
    out = tmp_path / "out.tflite"
    for content in (
        b"",
        b"RGP1",
        whole[:-1],
        whole + b"!",
        whole[:200] + bytes([whole[200] ^ 1]) + whole[201:],
        whole[:-9] + bytes(each ^ 1 for each in whole[-9:]),
    ):
        bad.write_bytes(content)
        sentence = fails(capsys, "inspect", bad)
        assert any(word in sentence for word in ("bad.rgp", "signature", "SHA-256"))
        fails(capsys, "decode", bad, "-o", out)
        fails(capsys, "eval", bad, "--data", EVAL)
        assert not out.exists()
    fails(capsys, "inspect", tmp_path / "none.rgp")


def test_packs_of_unknown_signers(
    pack: Path, tmp_path: Path, capsys: Stderr, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = tmp_path / "home" / "key.pub"
    monkeypatch.setenv("REGROW_HOME", str(tmp_path / "elsewhere"))
    out = tmp_path / "out.tflite"
    assert "regrow trust" in fails(capsys, "decode", pack, "-o", out)
    assert "not trusted" in fails(capsys, "eval", pack, "--data", EVAL)
    assert regrow("inspect", pack, "--json") == 0
    assert json.loads(capsys.readouterr().out)["trusted"] is False
    assert regrow("trust", signer) == 0
    assert regrow("decode", pack, "-o", out) == 0
    assert out.exists()


def test_outputs_that_are_no_file(pack: Path, tmp_path: Path, capsys: Stderr) -> None:
    """A rename would replace a device or a pipe, as /dev/null is one."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for output in (pipe, tmp_path, ""):
        assert "no file" in fails(capsys, "decode", pack, "-o", output)
    assert pipe.is_fifo()
    assert "no file" in fails(capsys, "compress", MODEL, "--data", EVAL, "--codec", "raw", "-o", pipe)
    assert pipe.is_fifo()


def test_packs_for_another_runtime(tmp_path: Path, capsys: Stderr) -> None:
    for target, backend in (("pi", "numpy"), ("board", "litert")):
        pack = tmp_path / f"{target}.rgp"
        assert (
            regrow("compress", MODEL, "--data", EVAL, "--codec", "raw", "--target", target, "-o", pack) == 0
        )
        assert "backend" in fails(capsys, "eval", pack, "--data", EVAL, "--backend", backend)


def test_a_source_that_is_no_model_is_named(pack: Path, tmp_path: Path, capsys: Stderr) -> None:
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(MODEL.read_bytes()[:5000])
    assert "bad.tflite" in fails(capsys, "eval", pack, "--data", EVAL, "--source", bad)


def test_json_has_no_more_digits_than_tell(capsys: Stderr) -> None:
    console.show_json({"drop": 100 * (0.986 - 0.984), "some": [1 / 3, -1e-17, 1.25e-7, None, 12345678]})
    assert json.loads(capsys.readouterr().out) == {
        "drop": 0.2,
        "some": [0.333333, 0.0, 1.25e-7, None, 12345678],
    }


def test_eval_without_the_source_says_so(pack: Path, tmp_path: Path, capsys: Stderr) -> None:
    for file in (tmp_path / "home" / "sources").iterdir():
        file.unlink()
    capsys.readouterr()
    assert regrow("eval", pack, "--data", EVAL, "--json") == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["source"] is None
    assert result["drop"] is None
    assert "--source" in err
    assert regrow("eval", pack, "--data", EVAL, "--source", MODEL, "--json") == 0
    assert json.loads(capsys.readouterr().out)["source"] == pytest.approx(0.986)


def test_json_is_all_there_is_on_stdout(pack: Path, tmp_path: Path, capsys: Stderr) -> None:
    capsys.readouterr()
    assert regrow("inspect", pack, "--json") == 0
    counted = json.loads(capsys.readouterr().out)
    assert counted["bytes"] == pack.stat().st_size
    words = [
        "compress",
        MODEL,
        "--data",
        EVAL,
        "--calib",
        CALIB,
        "--codec",
        "central",
        "--max-drop",
        "3",
        "--json",
    ]
    assert regrow(*words, "-o", tmp_path / "j.rgp") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["bytes"] == (tmp_path / "j.rgp").stat().st_size
    assert result["tried"][0]["batch_size"] == 1
    assert result["batch_size"] in [each["batch_size"] for each in result["tried"]]


def test_keys(tmp_path: Path, capsys: Stderr) -> None:
    assert regrow("keygen", "--out", tmp_path / "k.pem") == 0
    assert "exists already" in fails(capsys, "keygen", "--out", tmp_path / "k.pem")
    (tmp_path / "bad.pub").write_text("not a key")
    assert "64 hex digits" in fails(capsys, "trust", tmp_path / "bad.pub")
    assert "64 hex digits" in fails(capsys, "trust", MODEL)
    assert fails(capsys, "trust", tmp_path / "none.pub").endswith("No such file or directory")


def test_interruption(monkeypatch: pytest.MonkeyPatch, capsys: Stderr, tmp_path: Path) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("regrow_host.job.prepare", interrupt)
    assert regrow("compress", MODEL, "--data", EVAL, "-o", tmp_path / "o.rgp") == 130
    assert capsys.readouterr().err == "regrow: interrupted\n"


def test_an_interruption_while_modules_are_imported(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import os\nos.kill(os.getpid(), 2)\nraise OSError\n")
    begin = "import sys; from regrow.entry import start; sys.exit(start('regrow', 'slow'))"
    words = [sys.executable, "-c", begin]
    result = subprocess.run(words, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (130, "regrow: interrupted\n")


def test_commands_begin_light() -> None:
    begin = "import sys, regrow_host.entry; print('numpy' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", begin], text=True) == "False\n"
