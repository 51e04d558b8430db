"""The Pi runtime in the set-up it is installed in: tflite-runtime, ai-edge-litert, or numpy alone.

deploy.sh runs this folder once in an environment of each and names it in REGROW_SETUP. digits.rgp is the pack
of the demo's network: `regrow compress demo/digits.tflite --data demo/digits_eval.npz --calib ...`.
"""

import importlib.util
import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import regrow
from regrow.errors import BackendError

HERE = Path(__file__).parent
PACK = HERE / "digits.rgp"
EVAL = HERE.parents[1] / "demo" / "digits_eval.npz"
LITERT = ("ai_edge_litert", "tflite_runtime")
SETUP = os.environ.get("REGROW_SETUP", "ai_edge_litert")
# SHA-256 of the int8 outputs on all samples
OUTPUTS = "3cbe9a41e21a3a40614bb11b4cf6845db3b6a86b69d41972a2c6fdacde819cd1"


@pytest.fixture(scope="module")
def samples() -> tuple[Any, Any]:
    with np.load(EVAL) as file:
        return file["x"].astype(np.float32), file["y"]


def test_the_environment_is_the_set_up_it_claims_to_be() -> None:
    found = [name for name in LITERT if importlib.util.find_spec(name)]
    assert found == [name for name in LITERT if name == SETUP]


def test_the_numpy_backend_gives_the_same_bytes_in_every_set_up(samples: tuple[Any, Any]) -> None:
    x, y = samples
    with regrow.load(PACK, backend="numpy") as network:
        levels = np.round(x / network.inputs[0].scale).astype(np.int64) + network.inputs[0].zero_point
        outputs = network.predict(np.clip(levels, -128, 127).astype(np.int8))
    assert outputs.dtype == np.int8
    assert sha256(outputs.tobytes()).hexdigest() == OUTPUTS
    assert (outputs.argmax(1) == y).mean() > 0.97


def test_load_takes_litert_where_it_is_and_numpy_elsewhere(samples: tuple[Any, Any]) -> None:
    x, y = samples
    with regrow.load(PACK) as network:
        assert network.backend == ("numpy" if SETUP == "numpy" else "litert")
        outputs = network.predict(x)
    assert outputs.dtype == np.float32
    assert (outputs.argmax(1) == y).mean() > 0.97


def test_litert_says_what_is_missing() -> None:
    if SETUP == "numpy":
        with pytest.raises(BackendError, match="install"):
            regrow.load(PACK, backend="litert")
    else:
        regrow.load(PACK, backend="litert").close()


def test_the_command_predicts() -> None:
    script = Path(sys.executable).with_name("regrow-device")
    command = [sys.executable, "-W", "error", script, "predict", PACK, "--samples", EVAL, "--json"]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert answer["backend"] == ("numpy" if SETUP == "numpy" else "litert")
    assert answer["samples"] == 500
    assert answer["accuracy"] > 0.97
