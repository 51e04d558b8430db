"""What a board gains by leaving zeros out: the same pruned networks with zero skipping and without.

    python benchmarks/zero_skipping.py [--models DIR] [--data DIR] [--rounds N] [--json FILE]

Of every layer's weights the 70 % that are smallest are 0. `cnn` and `mlp` are built here, with seeded weights
and samples; the others are the MLPerf Tiny reference models with real samples, where DIR has them (default:
../shared). One run on one machine, MicroPython's unix port: every round runs a network in the forms that its
layers get (weights of 0 are not there, or inputs of 0 are left out), then in the fastest that multiply all,
each in a process of its own. The time of a round is its median over the samples, a ratio is taken within a
round, and figures are medians over rounds. `dense` is the time of all FULLY_CONNECTED layers. `equal`: on how
many samples both outputs were those of the numpy executor in every byte.
"""

import argparse
import json
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import regrow
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from regrow.errors import RegrowError
from regrow.pack import ROLE_GRAPH, ROLE_WEIGHTS, USE_EXECUTOR
from regrow_host import bands, bench, console, lower, packing, tflite
from regrow_host.boardfiles import compile_file
from regrow_host.encode import raw
from regrow_host.tflite import Model
from regrow_host.unixport import UnixPort

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
WORKER = Path(__file__).with_name("multiplying_worker.py")
ZEROS = 0.7
SAMPLES = 20
HEAP = 64 << 20
WAYS = ("skipping", "multiplying")
BARS = {"dense": 2.0, "network": 1.3}

sys.path.insert(0, str(ROOT / "tests"))
import mlperf  # noqa: E402
from builder import NONE, RELU, Builder  # noqa: E402

SHARED_MODELS = {
    "kws": "mlperf_kws_dscnn_int8.tflite",
    "ic": "mlperf_ic_resnet8_int8.tflite",
    "vww": "mlperf_vww_mobilenetv1_025_int8.tflite",
    "ad": "mlperf_ad_autoencoder_int8.tflite",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--models", type=Path, default=SHARED / "models", metavar="DIR")
    parser.add_argument("--data", type=Path, default=SHARED / "data", metavar="DIR")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="(default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there too")
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="regrow-") as name:
            port = UnixPort(Path(name) / "runtime")
            compile_file(WORKER, WORKER.name, Path(name) / "runtime" / f"{WORKER.stem}.mpy", "host")
            rows = [measure(contest, args.rounds) for contest in contests(args, Path(name), port)]
    except (RegrowError, OSError) as error:
        print(f"zero_skipping: {error}", file=sys.stderr)
        return 1
    show(rows)
    if args.json:
        machine = {"machine": platform.machine(), "python": platform.python_version(), "rounds": args.rounds}
        args.json.write_text(json.dumps(machine | {"results": rows}, indent=2) + "\n")
    return 0


class Contest:
    """A model, pruned, as a pack that is in a folder for each way to run it; `samples`: in real units."""

    def __init__(self, name: str, model: Model, samples: Path | None, folder: Path, port: UnixPort) -> None:
        self.name = name
        self._port = port
        self._folders = {way: folder / name / way for way in WAYS}
        for each in self._folders.values():
            each.mkdir(parents=True)
        pack = folder / name / "pack.rgp"
        self._operators = build(pack, pruned(model))
        with regrow.load(pack, "numpy") as network:
            info = network.inputs[0]
            seeded = np.random.default_rng(0).integers(-128, 128, (SAMPLES, *info.shape), np.int8)
            x = bench.integers(network, samples, SAMPLES) if samples else seeded
            self.outputs = np.asarray(network.predict(x)).reshape(len(x), -1)
        for each in self._folders.values():
            shutil.copy(pack, each)
            (each / "inputs").write_bytes(x.tobytes())
        port.run(WORKER.stem, "pack.rgp", heap=HEAP, cwd=self._folders["multiplying"])

    def run(self, way: str) -> dict[str, float]:
        """Microseconds of an inference: the network's, the median over the samples, and its dense layers'."""
        report = self._port.run("bench", "pack.rgp", "inputs", "outputs", heap=HEAP, cwd=self._folders[way])
        ops = self._port.run("profile", "pack.rgp", "inputs", heap=HEAP, cwd=self._folders[way])["ops"]
        dense = [us for (us, *_), name in zip(ops, self._operators, strict=True) if name == "FULLY_CONNECTED"]
        return {"network": statistics.median(report["us"]), "dense": sum(dense) / len(self.outputs)}

    def equal(self) -> int:
        found = [np.fromfile(each / "outputs", np.int8) for each in self._folders.values()]
        same = [(each.reshape(self.outputs.shape) == self.outputs).all(axis=1) for each in found]
        return int(np.logical_and(*same).sum())


def contests(args: argparse.Namespace, folder: Path, port: UnixPort) -> Iterator[Contest]:
    for build in (cnn, mlp):
        yield Contest(build.__name__, build(), None, folder, port)
    for name, file in SHARED_MODELS.items():
        if (args.models / file).exists():
            x, y = mlperf.SETS[name](args.data)
            samples = folder / f"{name}.npz"
            np.savez(samples, x=x, y=y)
            yield Contest(name, tflite.read((args.models / file).read_bytes()), samples, folder, port)


def cnn() -> Model:
    """Three convolutions and two dense layers on an image of 32 x 32 x 3: 1.9 million products."""
    net = Builder((1, 32, 32, 3)).conv(16, stride=2).conv(32, stride=2).conv(32)
    return zero_at_bottom(net.pool("MAX_POOL_2D").reshape(1, 512).dense(256, RELU).dense(10).softmax())


def mlp() -> Model:
    """Dense layers alone, on 640 values."""
    net = Builder((1, 640)).dense(256, RELU).dense(256, RELU).dense(128, RELU)
    return zero_at_bottom(net.dense(10, NONE))


def zero_at_bottom(net: Builder) -> Model:
    """What is behind a RELU has its zero at the lowest integer, as converters put it."""
    model = net.model()
    for operator in model.operators:
        inputs, outputs = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
        if getattr(operator.options, "fusedActivationFunction", NONE) == RELU:
            outputs.zero_points = np.array([-128])
        elif operator.name in ("MAX_POOL_2D", "RESHAPE"):
            outputs.zero_points = inputs.zero_points
    return model


def pruned(model: Model) -> Model:
    for weights in tflite.weight_tensors(model):
        assert weights.levels is not None
        levels = weights.levels.flatten()
        levels[np.argsort(np.abs(weights.values), axis=None, kind="stable")[: round(ZEROS * levels.size)]] = 0
        model.tensors[weights.tensor].data = levels.reshape(weights.shape)
    return model


def build(path: Path, model: Model) -> list[str]:
    """Write the model as a pack for boards; the operator of each record that runs there, by name."""
    lowered = lower.lower(model)
    parts = [packing.NewPart(ROLE_GRAPH, USE_EXECUTOR, 0, lower.graph_bytes(lowered))]
    for number, each in enumerate(lowered.weights):
        body = raw.encode(each.levels, each.scales, each.inner)
        parts.append(packing.NewPart(ROLE_WEIGHTS, USE_EXECUTOR, number, body))
    key = Ed25519PrivateKey.generate()
    packing.build_pack(path, path.stem, 1, parts, arena=lowered.graph.arena, key=key)
    ops = [lowered.graph.ops[n] for n in bands.records(lowered.graph)]
    return [tflite.OPERATOR_NAMES.get(op.code, "LOOKUP") for op in ops]


def measure(contest: Contest, rounds: int) -> dict[str, Any]:
    times: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(rounds):
        print(f"{contest.name}: round {number + 1} of {rounds}", file=sys.stderr)
        for way in WAYS:
            times[way].append(contest.run(way))
    row: dict[str, Any] = {
        "model": contest.name,
        "samples": len(contest.outputs),
        "equal": contest.equal(),
    }
    for part, bar in BARS.items():
        pairs = [(s[part], m[part]) for s, m in zip(times["skipping"], times["multiplying"], strict=True)]
        row[part] = {
            "skipping_us": statistics.median(s for s, _ in pairs),
            "multiplying_us": statistics.median(m for _, m in pairs),
            "ratios": [m / s for s, m in pairs if s],
            "ratio": statistics.median(m / s for s, m in pairs) if pairs[0][0] else None,
            "ratio_bar": bar,
        }
    return row


def show(rows: list[dict[str, Any]]) -> None:
    lines = []
    for each in rows:
        for part in BARS:
            found = each[part]
            if found["ratio"]:
                us = f"{found['multiplying_us']:.0f}", f"{found['skipping_us']:.0f}"
                equal = f"{each['equal']} of {each['samples']}"
                lines.append((each["model"], part, *us, f"{found['ratio']:.2f}", found["ratio_bar"], equal))
    columns = ("model", "part", "multiplying all, us", "skipping, us", "times faster", "bar", "equal")
    console.show_table("70 % of the weights zero, on MicroPython's unix port", columns, lines)


if __name__ == "__main__":
    sys.exit(main())
