"""How fast weights grow: in numpy on one core, and on MicroPython's unix port beside its arithmetic.

    python benchmarks/decode.py PACK.rgp ... [--json FILE]

Packs for boards, as `regrow compress --target board` writes them. A board grows its weights once, when it
installs the pack; `ns per MAC` is what a multiply-accumulate of an inference takes there. The host decodes a
network's tensors side by side; its time is a core's own. The last row is a random tensor of 1280 x 1280
levels, as large networks have them, on the host alone. Each figure is the best of a few runs, the one that
others slow down the least.
"""

import argparse
import json
import shutil
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from regrow.pack import ROLE_WEIGHTS, USE_EXECUTOR, open_pack
from regrow.reader import Reader
from regrow.weights import Weights
from regrow_host import console
from regrow_host.boardfiles import compile_file
from regrow_host.encode import grid
from regrow_host.profile import profile
from regrow_host.unixport import UnixPort

WORKER = Path(__file__).with_name("decode_worker.py")
RUNS = 5
HEAP = 64 << 20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("packs", type=Path, nargs="*", metavar="PACK.rgp")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parser.parse_args()
    results = [measure(path) for path in args.packs]
    part = large()
    results.append(row("1280 x 1280 random levels", [part]))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")
    columns = ("pack", "weights", "bits", "host million/s", "board ns/weight", "board ns/MAC")
    console.show_table("growing weights", columns, [list(map(_cell, each.values())) for each in results])


def measure(path: Path) -> dict[str, Any]:
    """What `row` gives, with nanoseconds of a weight and of a multiply-accumulate on the unix port."""
    with open_pack(path) as pack:
        parts = []
        for part in pack.manifest.parts:
            if part.role == ROLE_WEIGHTS and part.use & USE_EXECUTOR:
                reader = pack.reader(part)
                parts.append(reader.read(reader.left))
    result = row(path.stem, parts)
    costs = min((on_board(path) for _ in range(RUNS)), key=lambda each: sum(each.values()))
    best = min((profile(path) for _ in range(RUNS)), key=lambda each: float(each["us"]))
    result["board_ns_per_weight"] = sum(costs.values()) / result["weights"]
    result["board_ns_per_mac"] = 1000 * sum(op["us"] for op in best["ops"] if op["macs"]) / best["macs"]
    return result


def row(name: str, parts: list[bytes]) -> dict[str, Any]:
    """Weights, bits of one, and how many million the host grows in a second of a core's time."""
    weights = sum(weights_of(part).count for part in parts)
    return {
        "pack": name,
        "weights": weights,
        "bits": 8 * sum(map(len, parts)) / weights,
        "host_million_per_s": weights / seconds(parts) / 1e6,
        "board_ns_per_weight": None,
        "board_ns_per_mac": None,
    }


def weights_of(part: bytes) -> Weights:
    return Weights(Reader(BytesIO(part), 0, len(part)))


def seconds(parts: list[bytes]) -> float:
    """The least processor time in which the levels of a network's parts grow, from their bytes."""
    times = []
    for _ in range(RUNS):
        start = time.thread_time()
        for weights in Weights.side_by_side(map(weights_of, parts)):
            weights.read_levels(np.empty(weights.count, np.int8))
        times.append(time.thread_time() - start)
    return min(times)


def on_board(path: Path) -> dict[str, int]:
    """Nanoseconds per weights part on the unix port."""
    with tempfile.TemporaryDirectory(prefix="regrow-") as folder:
        runtime, work = Path(folder) / "runtime", Path(folder) / "work"
        work.mkdir()
        port = UnixPort(runtime)
        compile_file(WORKER, WORKER.name, runtime / f"{WORKER.stem}.mpy", "host")
        shutil.copy(path, work / "pack.rgp")
        costs: dict[str, int] = port.run(WORKER.stem, "pack.rgp", heap=HEAP, cwd=work)
        return costs


def large() -> bytes:
    """Rows and columns of different spread, about 2.6 bits a weight."""
    random = np.random.default_rng(0)
    spreads = np.exp(random.normal(0, 0.4, 1280)) * np.exp(random.normal(0, 0.4, (1280, 1)))
    levels = np.rint(random.laplace(0, 1, (1280, 1280)) * spreads).clip(-127, 127).astype(np.int8)
    return grid.encode(levels, np.ones(1, np.float32))


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else value


if __name__ == "__main__":
    main()
