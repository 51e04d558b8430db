"""The demo's network as a pack for boards, signed by a key that the host in FOLDER/home trusts."""

from pathlib import Path

import pytest
from regrow_host import cli

DEMO = Path(__file__).parents[1] / "demo"
EVAL = DEMO / "digits_eval.npz"


def make(folder: Path) -> Path:
    pack = folder / "digits.rgp"
    words = [
        "compress",
        DEMO / "digits.tflite",
        "--data",
        EVAL,
        "--codec",
        "raw",
        "--target",
        "board",
        "-o",
        pack,
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGROW_HOME", str(folder / "home"))
        assert cli.main([str(word) for word in words]) == 0
    return pack
