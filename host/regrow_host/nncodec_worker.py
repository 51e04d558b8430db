"""Code tensors by nncodec at many settings: nncodec_worker.py FOLDER.

Runs in an environment that has `nncodec`. Reads FOLDER/tensors.npz and FOLDER/settings.json, a list of
keyword arguments; writes FOLDER/N.npz, what the N-th bitstream decodes to, and prints its bytes, a line each.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

# What nncodec has for whole training frameworks pulls in torch; its codec needs none of it.
framework: Any = ModuleType("nncodec.framework")
framework.tensorflow_model = framework.pytorch_model = framework.use_case_init = None
sys.modules["nncodec.framework"] = framework

import numpy as np  # noqa: E402
from nncodec import nnc  # type: ignore[import-not-found]  # noqa: E402


def main(folder: Path) -> None:
    with np.load(folder / "tensors.npz") as file:
        tensors = dict(file)
    for number, setting in enumerate(json.loads((folder / "settings.json").read_text())):
        steps = {name: np.int32(qp) for name, qp in setting.pop("qp_per_tensor", {}).items()}
        with contextlib.redirect_stdout(io.StringIO()):
            copies = {name: array.copy() for name, array in tensors.items()}
            stream = nnc.compress(copies, None, return_bitstream=True, qp_per_tensor=steps or None, **setting)
            decoded = nnc.decompress(stream)
        np.savez(folder / f"{number}.npz", **decoded)
        print(len(stream), flush=True)


main(Path(sys.argv[1]))
