"""`regrow bench`: run a pack where it will run, hold its outputs to the host's, and say what it takes."""

from __future__ import annotations

import argparse
import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import regrow
from numpy.typing import NDArray
from regrow import quant
from regrow.errors import CapacityError, InputError, RegrowError
from regrow.network import Network

from regrow_host import console, data
from regrow_host.packfile import open_trusted
from regrow_host.unixport import UnixPort, heap_size, unix_port

GENEROUS = 64 << 20
"""Bytes of heap in which every pack loads."""
KB = 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("runtime", choices=("board",), help="board: MicroPython's unix port")
    add("pack", type=Path, metavar="PACK.rgp")
    add("--data", type=Path, required=True, metavar="EVAL.npz", help="samples x in real units")
    add("--heap", type=heap_size, metavar="96k", help="that the samples must run in (default: the smallest)")
    add("--samples", type=int, default=100, metavar="N", help="at most so many (default %(default)s)")
    add("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    result = bench(args.pack, args.data, args.heap, args.samples)
    if args.json:
        console.show_json(result)
    else:
        _show(result)
    return 0 if result["equal"] == result["samples"] else 1


def bench(path: Path, samples: Path, heap: int | None = None, count: int = 100) -> dict[str, Any]:
    """What `--json` prints: bytes of heap, microseconds, and on how many samples the outputs equal numpy's.

    Raises CapacityError if the pack does not run in a heap of `heap` bytes, or another RegrowError.
    """
    x, y = reference(path, samples, count)
    with unix_port() as (port, work):
        trial = Trial(port, work, path, x)
        smallest = trial.smallest()
        taken = heap or smallest
        if taken < smallest:
            raise CapacityError(f"{path} does not run in a heap of {taken} bytes, it needs {smallest}")
        report, outputs = trial.run(taken, len(x))
    return {
        "samples": len(x),
        "equal": int((outputs == y).all(axis=1).sum()),
        "heap": taken,
        "smallest_heap": smallest,
        **{f"{name}_bytes": size for name, size in report["heap"].items()},
        "us": {
            "median": statistics.median(report["us"]),
            "min": min(report["us"]),
            "max": max(report["us"]),
        },
    }


def reference(path: Path, samples: Path, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The inputs and the outputs of numpy's executor as bytes, (samples, bytes) each. Raises RegrowError."""
    with open_trusted(path) as pack, regrow.load(pack, "numpy") as network:
        x = integers(network, samples, count)
        y = network.predict(x)
        outputs = y if isinstance(y, list) else [y]
    return _bytes(x), np.concatenate([_bytes(each) for each in outputs], axis=1)


def integers(network: Network, samples: Path, count: int) -> NDArray[Any]:
    """At most `count` inputs of an `.npz` file in the integers that the network takes, (n, *shape)."""
    if len(network.inputs) > 1:
        raise InputError(f"{network.name} takes {len(network.inputs)} inputs, {samples} has one array x")
    if count < 1:
        raise InputError(f"{count} samples are none: --samples takes 1 or more")
    info = network.inputs[0]
    fitted = data.fit(data.load_npz(samples), info.shape, samples, grouped=True)
    x = data.inputs(fitted, info.shape)[:count].astype(np.float32).reshape(-1, *info.shape)
    return quant.quantize(x, info.scale, info.zero_point, info.dtype) if info.scale else x.astype(info.dtype)


class Trial:
    """Runs a pack on the unix port as a board would that has just got it: its resident form is not there."""

    def __init__(self, port: UnixPort, work: Path, pack: Path, x: NDArray[np.uint8]) -> None:
        self._port = port
        self._work = work
        self._pack = pack
        self._x = x

    def run(self, heap: int, count: int) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        """What boardscripts/bench.py reports of the first `count` samples, and the outputs (count, bytes)."""
        shutil.rmtree(self._work)
        self._work.mkdir()
        shutil.copy(self._pack, self._work / "pack.rgp")
        (self._work / "inputs").write_bytes(self._x[:count].tobytes())
        report = self._port.run("bench", "pack.rgp", "inputs", "outputs", heap=heap, cwd=self._work)
        return report, np.fromfile(self._work / "outputs", np.uint8).reshape(count, -1)

    def smallest(self) -> int:
        """Bytes of the smallest heap, in steps of 1 KB, in which one sample can be predicted."""
        report, _ = self.run(GENEROUS, 1)
        low: int = sum(report["heap"].values()) // KB
        high = 2 * low
        while not self._fits(high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            if self._fits(middle):
                high = middle
            else:
                low = middle
        return high * KB

    def _fits(self, kilobytes: int) -> bool:
        try:
            self.run(kilobytes * KB, 1)
        except RegrowError:
            return False
        return True


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(len(array), -1).view(np.uint8)


def _show(result: dict[str, Any]) -> None:
    us = result["us"]
    console.show(
        f"{result['equal']} of {result['samples']} outputs equal numpy's bit for bit, "
        f"{us['median'] / 1000:.2f} ms an inference ({us['min'] / 1000:.2f} to {us['max'] / 1000:.2f})"
    )
    names = {
        "smallest_heap": "smallest heap that suffices",
        "import_bytes": "modules of the runtime",
        "load_bytes": "loaded network",
        "buffers_bytes": "input and output of the caller",
        "predict_bytes": "allocated by one prediction",
    }
    console.show_table("heap", ("for", "bytes"), ((text, result[name]) for name, text in names.items()))
