"""`regrow profile`: on the unix port, and by mpremote on one that stands for a board at a serial port."""

import json
import os
import pty
import select
import subprocess
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import digits_pack
import numpy as np
import pytest
from digits_pack import EVAL
from regrow.errors import RegrowError
from regrow_host import boardfiles, cli, profile, unixport

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits_pack.make(tmp_path_factory.mktemp("pack"))


@pytest.fixture(autouse=True)
def home(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGROW_HOME", str(pack.parent / "home"))


class SerialBoard:
    """MicroPython's REPL behind a pseudo terminal, as a board's behind a serial port.

    The unix port ends where a board does a soft reset: it is started again and brought back to the raw REPL.
    """

    def __init__(self, flash: Path) -> None:
        self._flash = flash
        self._host, line = pty.openpty()
        tty.setraw(self._host)
        tty.setraw(line)
        self.port = os.ttyname(line)
        self._line = line
        self._start()
        self._open = True
        self._pump = threading.Thread(target=self._run, daemon=True)
        self._pump.start()

    def close(self) -> None:
        self._open = False
        self._pump.join()
        self._process.kill()
        self._process.wait()
        for each in (self._board, self._host, self._line):
            os.close(each)

    def _start(self) -> None:
        self._board, terminal = pty.openpty()
        tty.setraw(terminal)
        self._process = subprocess.Popen(
            [unixport._executable(), "-X", "heapsize=256k"],
            cwd=self._flash,
            env=os.environ | {"MICROPYPATH": ".frozen"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)

    def _run(self) -> None:
        while self._open:
            ready, _, _ = select.select([self._host, self._board], [], [], 0.05)
            if self._host in ready:
                os.write(self._board, os.read(self._host, 4096))
            if self._board in ready:
                try:
                    os.write(self._host, os.read(self._board, 4096))
                except OSError:  # the other end is closed: it has ended
                    self._reset()

    def _reset(self) -> None:
        self._process.wait()
        os.close(self._board)
        os.write(self._host, b"soft reboot\r\n")
        self._start()
        os.write(self._board, b"\x01")


@pytest.fixture
def board(tmp_path: Path) -> Iterator[SerialBoard]:
    flash = tmp_path / "flash"
    boardfiles.build(flash, "host")
    board = SerialBoard(flash)
    yield board
    board.close()


def check(result: dict[str, object]) -> None:
    """The demo's network: 8x8 images, a convolution of 24 3x3 filters first, 10 classes."""
    ops = result["ops"]
    assert isinstance(ops, list)
    assert ops[0]["operator"] == "CONV_2D"
    assert ops[0]["macs"] == 8 * 8 * 24 * 9
    assert ops[-2]["operator"] == "FULLY_CONNECTED"
    assert ops[-2]["macs"] == 56 * 10
    assert ops[-2]["bytes_read"] > 56 * 10
    assert ops[-1]["macs"] == 0
    for name in ("macs", "bytes_read", "zeros_skipped"):
        assert sum(op[name] for op in ops) == pytest.approx(result[name])
    assert 0 < sum(op["us"] for op in ops) <= result["us"]
    assert 0 < result["activation_peak"] <= result["memory"]


def test_here(pack: Path, capsys: Output) -> None:
    capsys.readouterr()
    assert cli.main(["profile", str(pack), "--data", str(EVAL), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["samples"] == profile.SAMPLES
    check(result)
    assert cli.main(["profile", str(pack)]) == 0
    assert "DEPTHWISE_CONV_2D" in capsys.readouterr().out


def test_on_a_board(pack: Path, board: SerialBoard, tmp_path: Path) -> None:
    result = profile.profile(pack, EVAL, board.port)
    assert result["port"] == board.port
    check(result)
    assert [path.name for path in (tmp_path / "flash").iterdir()] == ["regrow"]


def test_a_board_that_is_not_there(pack: Path) -> None:
    with pytest.raises(RegrowError, match="/dev/nothing"):
        profile.profile(pack, None, "/dev/nothing")


def test_a_board_without_the_runtime(pack: Path, board: SerialBoard, tmp_path: Path) -> None:
    (tmp_path / "flash" / "regrow").rename(tmp_path / "away")
    with pytest.raises(RegrowError, match="no module named"):
        profile.profile(pack, None, board.port)


def test_samples_of_another_shape(pack: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 5)))
    with pytest.raises(RegrowError, match="the model takes"):
        profile.profile(pack, tmp_path / "x.npz")
