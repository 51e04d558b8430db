"""`regrow profile`: what each operator of a pack costs on MicroPython, here or on a board."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import regrow
from numpy.typing import NDArray
from regrow.errors import PackError
from regrow.graph import WEIGHTS, Graph, Node, Op
from regrow.network import Network
from regrow.pack import ROLE_GRAPH, USE_EXECUTOR, Pack

from regrow_host import bands, bench, console, planner, tflite
from regrow_host.files import temporary_folder
from regrow_host.mpremote import Board
from regrow_host.packfile import open_trusted
from regrow_host.unixport import unix_port

GENEROUS = 64 << 20
SAMPLES = 10
LOOKUP = 255


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("pack", type=Path, metavar="PACK.rgp")
    add("--data", type=Path, metavar="EVAL.npz", help=f"takes {SAMPLES} samples (default: random ones)")
    add("--port", help="of a board with the runtime (default: MicroPython's unix port, here)")
    add("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    result = profile(args.pack, args.data, args.port)
    if args.json:
        console.show_json(result)
    else:
        _show(result)
    return 0


def profile(path: Path, samples: Path | None = None, port: str | None = None) -> dict[str, Any]:
    """What `--json` prints, all for one inference: microseconds, bytes, multiply-accumulates.

    Raises RegrowError.
    """
    with open_trusted(path) as pack, regrow.load(pack, "numpy") as network:
        graph = _graph(pack)
        x = bench.integers(network, samples, SAMPLES) if samples else _random(network)
    works = [_work(op, node) for op, node in graph.nodes()]
    with temporary_folder() as folder:
        inputs = folder / "inputs"
        inputs.write_bytes(x.tobytes())
        files = {"pack.rgp": path, "inputs": inputs}
        report = Board(port).run("profile", files) if port else _here(files)
    records = bands.records(graph)
    if len(report["ops"]) != len(records):
        raise PackError(f"the board runs {len(report['ops'])} records, the graph has {len(records)}")
    costs = np.zeros((len(works), 3))
    np.add.at(costs, records, np.array(report["ops"]) / len(x))
    return {
        "port": port,
        "samples": len(x),
        "us": report["us"] / len(x),
        "activation_peak": planner.activation_peak(graph),
        "memory": report["memory"],
        "macs": sum(work.macs for work in works),
        "bytes_read": round(float(costs[:, 1].sum())),
        "zeros_skipped": round(float(costs[:, 2].sum())),
        "ops": [
            {
                "operator": work.operator,
                "output": work.output,
                "us": round(us, 1),
                "macs": work.macs,
                "bytes_read": round(read),
                "zeros_skipped": round(skipped),
            }
            for work, (us, read, skipped) in zip(works, costs.tolist(), strict=True)
        ],
    }


@dataclass(frozen=True)
class Work:
    """What an op is asked to do; `macs` are its multiply-accumulates with weights."""

    operator: str
    output: list[int]
    macs: int


def _work(op: Op, node: Node) -> Work:
    """Each output of a layer takes the weights of its channel once; transposed, each input does."""
    code = op.options[0] if op.code == LOOKUP else op.code
    name = tflite.OPERATOR_NAMES[code]
    inputs = [tensor for tensor in node.inputs if tensor is not None]
    weights = sum(tensor.size for tensor in inputs if tensor.kind == WEIGHTS)
    output = node.outputs[0]
    once = inputs[0] if name == "TRANSPOSE_CONV" else output
    return Work(name, list(output.shape), weights * once.size // once.shape[-1] if weights else 0)


def _graph(pack: Pack) -> Graph:
    return Graph.parse(pack.reader(pack.part(ROLE_GRAPH, USE_EXECUTOR)))


def _random(network: Network) -> NDArray[np.uint8]:
    """Bytes of random samples, (n, bytes of all inputs)."""
    count = sum(int(np.prod(info.shape)) * info.dtype.itemsize for info in network.inputs)
    return np.random.default_rng(0).integers(0, 256, (SAMPLES, count), np.uint8)


def _here(files: Mapping[str, Path]) -> Any:
    with unix_port() as (port, work):
        for name, path in files.items():
            shutil.copy(path, work / name)
        return port.run("profile", *files, heap=GENEROUS, cwd=work)


def _show(result: dict[str, Any]) -> None:
    rows = []
    for number, op in enumerate([*result["ops"], result]):
        whole = op is result
        rate = f"{1000 * op['us'] / op['macs']:.2f}" if op["macs"] else ""
        rows.append(
            [
                "" if whole else number,
                "all" if whole else op["operator"],
                "" if whole else "x".join(map(str, op["output"])),
                f"{op['us']:.0f}",
                f"{100 * op['us'] / result['us']:.0f}",
                op["macs"],
                rate,
                op["bytes_read"],
                op["zeros_skipped"],
            ]
        )
    columns = ("#", "operator", "output", "us", "%", "MACs", "ns/MAC", "bytes read", "zeros skipped")
    console.show_table(f"one inference on {result['port'] or 'the unix port'}", columns, rows)
    console.show(
        f"activation peak {result['activation_peak']:,} bytes, "
        f"{result['memory']:,} with what operators work in"
    )
