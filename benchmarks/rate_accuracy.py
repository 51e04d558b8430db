"""regrow beside nncodec, the ISO reference of neural network coding: bytes of the weights at a given loss.

    python benchmarks/rate_accuracy.py [--models DIR] [--data DIR] [--json FILE] [--plot FILE]

Both work on the same samples: they search with two fifths of a data set and are judged on the rest, which
took no part. nncodec gets the best of what it can be set to (regrow_host/nncodec.py), by how far outputs
move on the search samples; its answer is the smallest of those bitstreams whose loss on the judging samples
is allowed, which favours it; regrow's is the pack that `regrow compress` makes. Both count the weights alone.
A second line gives nncodec the steps and the bias correction that regrow found: the bare codecs side by side.
nncodec comes from PyPI into .venv/nncodec, since it wants numpy below 2.

DIR: the MLPerf Tiny reference models, and the data that tests/mlperf.py reads (default: ../shared).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from regrow.errors import RegrowError
from regrow_host import console, contenders, plot

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
VERSION = "2.1.3"
TRAINING_IMAGES = 4000
"""Of IC, beside its 1,000 test images, none of which the network has seen in training."""

sys.path.insert(0, str(ROOT / "tests"))
import mlperf  # noqa: E402


@dataclass(frozen=True)
class Model:
    """`loss`: allowed, in points of the metric; `bar`: the highest ratio of bytes, regrow over nncodec."""

    name: str
    file: str
    loss: float
    bar: float


MODELS = (
    Model("ic", "mlperf_ic_resnet8_float.tflite", 0.5, 0.55),
    Model("kws", "mlperf_kws_dscnn_float.tflite", 0.5, 1.0),
    Model("vww", "mlperf_vww_mobilenetv1_025_float.tflite", 0.5, 0.8),
    Model("ad", "mlperf_ad_autoencoder_float.tflite", 0.5, 0.7),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--models", type=Path, default=SHARED / "models", metavar="DIR")
    parser.add_argument("--data", type=Path, default=SHARED / "data", metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves there")
    args = parser.parse_args()
    try:
        python = nncodec_python()
        with tempfile.TemporaryDirectory(prefix="regrow-") as folder:
            os.environ["REGROW_HOME"] = f"{folder}/home"
            results = [measure(each, args, Path(folder), python) for each in MODELS]
    except (RegrowError, OSError) as error:
        print(f"rate_accuracy: {error}", file=sys.stderr)
        return 1
    show(results)
    if args.plot:
        plot.rate_accuracy(args.plot, [(each["model"], each["curves"]) for each in results])
    if args.json:
        machine = {"machine": platform.machine(), "python": platform.python_version(), "nncodec": VERSION}
        args.json.write_text(json.dumps(machine | {"results": results}, indent=2) + "\n")
    return 0


def nncodec_python() -> Path:
    """The Python of an environment with nncodec's codec, without the frameworks it trains with."""
    folder = ROOT / ".venv" / "nncodec"
    python = folder / "bin" / "python"
    if python.exists():
        return python
    print(f"installing nncodec into {folder}", file=sys.stderr)
    venv.create(folder, clear=True, with_pip=True)
    packages = [f"nncodec=={VERSION}", "numpy<2"]
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    if subprocess.run([*install, *packages], check=False).returncode:
        raise RegrowError("pip cannot install nncodec: a C++ compiler and Python 3.9 to 3.12 are needed")
    return python


def measure(model: Model, args: argparse.Namespace, folder: Path, python: Path) -> dict[str, Any]:
    samples = folder / f"{model.name}.npz"
    x, y = mlperf.SETS[model.name](args.data)
    if model.name == "ic":
        with np.load(args.data / "cifar10.npz") as file:
            x = np.concatenate([x, file["x_train"][:TRAINING_IMAGES]])
            y = np.concatenate([y, file["y_train"][:TRAINING_IMAGES]])
    np.savez(samples, x=x, y=y)
    words = [str(args.models / model.file), "--data", str(samples)]
    print(f"{model.name}: regrow compress", file=sys.stderr)
    target = ["--target", "pi", "--max-drop", str(model.loss), "-o", str(folder / f"{model.name}.rgp")]
    pack = regrow("compress", *words, *target)
    print(f"{model.name}: regrow compare", file=sys.stderr)
    curves = regrow("compare", *words, "--nncodec", str(python), "-o", str(folder / "curves.svg"))
    peer, fed = (_smallest(curves["points"], method, model.loss) for method in ("nncodec", contenders.FED))
    return {
        "model": model.name,
        "metric": pack["metric"],
        "samples": pack["samples"],
        "loss_allowed": model.loss,
        "regrow": {name: pack[name] for name in ("weights_bytes", "bytes", "drop", "low", "high", "seconds")},
        "nncodec": peer,
        "nncodec_fed": fed,
        "ratio": peer and pack["weights_bytes"] / peer["bytes"],
        "ratio_fed": fed and pack["weights_bytes"] / fed["bytes"],
        "ratio_bar": model.bar,
        "curves": curves,
    }


def _smallest(points: list[dict[str, Any]], method: str, loss: float) -> dict[str, Any] | None:
    """The point of fewest bytes among those that lose what is allowed; None if all lose more."""
    held = [each for each in points if each["method"] == method and each["drop"] <= loss]
    return min(held, key=lambda each: int(each["bytes"]), default=None)


def regrow(command: str, *words: str) -> dict[str, Any]:
    """What a `regrow` command prints with --json."""
    line = [sys.executable, "-m", "regrow_host.cli", command, *words, "--json"]
    done = subprocess.run(line, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise RegrowError(f"regrow {command} ended with exit code {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def show(results: list[dict[str, Any]]) -> None:
    columns = "model", "samples", "nncodec", "bytes", "its loss", "regrow", "its loss", "ratio", "bar"
    rows = [
        (
            each["model"],
            each["samples"],
            how,
            f"{each[peer]['bytes']:,}" if each[peer] else "loses more",
            _loss(each[peer]) if each[peer] else "",
            f"{each['regrow']['weights_bytes']:,}",
            _loss(each["regrow"]),
            f"{each[ratio]:.2f}" if each[ratio] else "",
            bar and f"{each[bar]:.2f}",
        )
        for each in results
        for how, peer, ratio, bar in (
            ("its own", "nncodec", "ratio", "ratio_bar"),
            ("fed", "nncodec_fed", "ratio_fed", ""),
        )
    ]
    console.show_table("bytes of the weights at the loss allowed, regrow beside nncodec", columns, rows)


def _loss(point: dict[str, Any]) -> str:
    return f"{point['drop']:+.2f} ({point['low']:+.2f} to {point['high']:+.2f})"


if __name__ == "__main__":
    sys.exit(main())
