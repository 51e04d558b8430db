"""regrow on MicroPython beside TFLite Micro's reference kernels: time and memory of the same int8 models.

    python benchmarks/board_vs_tflm.py [--models DIR] [--data DIR] [--rounds N] [--json FILE]

One run on one machine: every round runs TFLite Micro, then regrow with the model's own 8-bit weights (codec
raw), with those rounded to the 15 levels of 4 bits (raw, 4 bits) and with what `regrow compress` makes of the
model (codec auto), each on the same real samples in a process of its own. The time of a round is its median
over the samples, a ratio is taken within a round, and figures are medians over rounds: a machine that others
slow down slows both. regrow's times include reading its resident form from the file system. TFLite Micro
comes from PyPI into .venv/tflm.

DIR: the MLPerf Tiny reference models, and the data that tests/mlperf.py reads (default: ../shared).
"""

import argparse
import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import regrow
from numpy.typing import NDArray
from regrow.errors import RegrowError
from regrow.pack import ROLE_WEIGHTS, open_pack
from regrow.weights import Weights
from regrow_host import bench, console, tflite
from regrow_host.unixport import UnixPort

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
WORKER = Path(__file__).with_name("tflm_worker.py")
SAMPLES = 50
HEAP = 64 << 20

sys.path.insert(0, str(ROOT / "tests"))
import mlperf  # noqa: E402


@dataclass(frozen=True)
class Model:
    """`bars`: the highest ratio of times with 8-bit weights and with weights of 4 bits or fewer, and the most
    bytes that a loaded network may take on the heap, as a share of TFLite Micro's arena or as such."""

    name: str
    file: str
    bars: tuple[float, float]
    heap_share: float = 0
    heap_bytes: int = 0


MODELS = (
    Model("kws", "mlperf_kws_dscnn_int8.tflite", (0.8, 0.6), heap_share=1.0),
    Model("ic", "mlperf_ic_resnet8_int8.tflite", (0.8, 0.6), heap_share=0.7),
    Model("vww", "mlperf_vww_mobilenetv1_025_int8.tflite", (0.8, 0.6), heap_share=0.7),
    Model("ad", "mlperf_ad_autoencoder_int8.tflite", (2.5, 2.5), heap_bytes=12288),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--models", type=Path, default=SHARED / "models", metavar="DIR")
    parser.add_argument("--data", type=Path, default=SHARED / "data", metavar="DIR")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="(default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there too")
    args = parser.parse_args()
    try:
        python = tflm_python()
        with tempfile.TemporaryDirectory(prefix="regrow-") as name:
            os.environ["REGROW_HOME"] = f"{name}/home"
            port = UnixPort(Path(name) / "runtime")
            rows = []
            for model in MODELS:
                folder = Path(name) / model.name
                folder.mkdir()
                rows += measure(model, Contest(model, args, folder, python, port), args.rounds)
    except (RegrowError, OSError) as error:
        print(f"board_vs_tflm: {error}", file=sys.stderr)
        return 1
    show(rows)
    if args.json:
        machine = {"machine": platform.machine(), "python": platform.python_version(), "rounds": args.rounds}
        args.json.write_text(json.dumps(machine | {"results": rows}, indent=2) + "\n")
    return 0


def tflm_python() -> Path:
    """The Python of an environment with TFLite Micro, made if it is not there."""
    folder = ROOT / ".venv" / "tflm"
    python = folder / "bin" / "python"
    if python.exists() and subprocess.run([python, "-c", "import tflite_micro"], check=False).returncode == 0:
        return python
    print(f"installing tflite-micro into {folder}", file=sys.stderr)
    venv.create(folder, clear=True, with_pip=True)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "tflite-micro"]
    if subprocess.run(install, check=False).returncode:
        raise RegrowError(
            f"pip cannot install tflite-micro for Python {platform.python_version()}: "
            "run this with a Python version that PyPI has a wheel of it for"
        )
    return python


class Contest:
    """One model, its packs and its samples, in a folder of its own."""

    def __init__(
        self, model: Model, args: argparse.Namespace, folder: Path, python: Path, port: UnixPort
    ) -> None:
        self.model = args.models / model.file
        self.folder = folder
        self._python = python
        self._port = port
        self.rounded = folder / "rounded.tflite"
        self.rounded.write_bytes(rounded(self.model.read_bytes()))
        x, y = mlperf.SETS[model.name](args.data)
        self._samples = folder / "samples.npz"
        np.savez(self._samples, x=x, y=y)
        self.packs = {
            "raw": self._compress("raw", self.model),
            "raw, 4 bits": self._compress("raw", self.rounded),
            "auto": self._compress("auto", self.model),
        }
        with regrow.load(self.packs["raw"], "numpy") as network:
            self.x = bench.integers(network, self._samples, SAMPLES)
        (folder / "inputs").write_bytes(self.x.tobytes())

    def _compress(self, codec: str, model: Path) -> Path:
        pack = self.folder / f"{model.stem}.{codec}.rgp"
        words = ["compress", model, "--data", self._samples, "--codec", codec, "--target", "board"]
        command = [sys.executable, "-m", "regrow_host.cli", *words, "--json", "-o", pack]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RegrowError(f"regrow compress {model} failed: {done.stderr.strip()}")
        return pack

    def regrow(self, codec: str) -> float:
        """Microseconds per inference, the median over the samples."""
        pack = self.packs[codec]
        report = self._port.run("bench", pack.name, "inputs", codec, heap=HEAP, cwd=self.folder)
        return float(statistics.median(report["us"]))

    def tflm(self, model: Path, outputs: str = "tflm") -> tuple[float, int]:
        """Microseconds per inference and the bytes of the arena."""
        command = [self._python, WORKER, model, "inputs", outputs]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        arena = re.search(r"Arena allocation total (\d+) bytes", done.stderr + done.stdout)
        if done.returncode or arena is None:
            raise RegrowError(f"tflite-micro cannot run {model}: {done.stderr.strip()[-300:]}")
        return statistics.median(json.loads(done.stdout.splitlines()[-1])), int(arena[1])

    def equal(self, codec: str) -> int:
        """On how many samples the last outputs of regrow were TFLite Micro's, of the same weights or, for
        auto, of the model's own."""
        outputs = "tflm"
        if "4 bits" in codec:
            outputs = "tflm, 4 bits"
            self.tflm(self.rounded, outputs)
        ours, theirs = (np.fromfile(self.folder / name, np.int8) for name in (codec, outputs))
        return int((ours.reshape(len(self.x), -1) == theirs.reshape(len(self.x), -1)).all(axis=1).sum())

    def memory(self, codec: str) -> tuple[int, int]:
        """Bytes of heap that the loaded network takes, and of the smallest heap that suffices for all."""
        samples: NDArray[np.uint8] = self.x.reshape(len(self.x), -1).view(np.uint8)
        work = self.folder / "heap"
        work.mkdir()
        trial = bench.Trial(self._port, work, self.packs[codec], samples)
        smallest = trial.smallest()
        report, _ = trial.run(smallest, 1)
        shutil.rmtree(work)
        return report["heap"]["load"] + report["heap"]["predict"], smallest


def measure(model: Model, contest: Contest, rounds: int) -> list[dict[str, Any]]:
    """A row for each kind of pack."""
    theirs: list[float] = []
    ours: dict[str, list[float]] = {codec: [] for codec in contest.packs}
    for number in range(rounds):
        print(f"{model.name}: round {number + 1} of {rounds}", file=sys.stderr)
        us, arena = contest.tflm(contest.model)
        theirs.append(us)
        for codec, times in ours.items():
            times.append(contest.regrow(codec))
    return [row(model, contest, codec, times, (theirs, arena)) for codec, times in ours.items()]


def row(
    model: Model, contest: Contest, codec: str, ours: list[float], tflm: tuple[list[float], int]
) -> dict[str, Any]:
    theirs, arena = tflm
    bits = widest(contest.packs[codec])
    heap, smallest = contest.memory(codec)
    return {
        "model": model.name,
        "codec": codec,
        "weight_bits": bits,
        "pack_bytes": contest.packs[codec].stat().st_size,
        "samples": len(contest.x),
        "equal_to_tflm": contest.equal(codec),
        "regrow_us": statistics.median(ours),
        "tflm_us": statistics.median(theirs),
        "ratios": [a / b for a, b in zip(ours, theirs, strict=True)],
        "ratio": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
        "ratio_bar": model.bars[bits <= 4],
        "heap": heap,
        "tflm_arena": arena,
        "heap_bar": model.heap_bytes or round(model.heap_share * arena),
        "smallest_heap": smallest,
    }


def rounded(data: bytes) -> bytes:
    """The model with weights of -7 to 7."""
    weights = {}
    for each in tflite.weight_tensors(tflite.read(data)):
        assert each.levels is not None
        assert each.scales is not None
        levels = np.rint(each.levels * (7 / 127)).clip(-7, 7).astype(np.int8)
        weights[each.tensor] = tflite.NewWeights(levels, (each.scales * (127 / 7)).astype(np.float32))
    return tflite.with_weights(data, weights)


def widest(path: Path) -> int:
    """Bits of a weight in the layer whose levels need most."""
    bits = 0
    with open_pack(path) as pack:
        for part in pack.manifest.parts:
            if part.role == ROLE_WEIGHTS:
                weights = Weights(pack.reader(part))
                levels = np.empty(weights.count, np.int8)
                weights.read_levels(levels)
                bits = max(bits, math.ceil(math.log2(int(levels.max()) - int(levels.min()) + 1)))
    return bits


def show(rows: list[dict[str, Any]]) -> None:
    columns = (
        "model",
        "codec",
        "bits",
        "regrow us",
        "tflm us",
        "ratio",
        "bar",
        "heap",
        "arena",
        "bar",
        "smallest",
    )
    lines = [
        (
            each["model"],
            each["codec"],
            each["weight_bits"],
            f"{each['regrow_us']:.0f}",
            f"{each['tflm_us']:.0f}",
            f"{each['ratio']:.2f}",
            f"{each['ratio_bar']:.1f}",
            each["heap"],
            each["tflm_arena"],
            each["heap_bar"],
            each["smallest_heap"],
        )
        for each in rows
    ]
    console.show_table("regrow on MicroPython's unix port beside TFLite Micro", columns, lines)


if __name__ == "__main__":
    sys.exit(main())
