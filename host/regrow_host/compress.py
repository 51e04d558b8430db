"""`regrow compress`: a `.tflite` model becomes a pack, as small as its accuracy allows."""

import argparse
import importlib.util
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.pack import ROLE_WEIGHTS, USE_BOTH, USE_EXECUTOR, USE_LITERT

from regrow_host import assemble, console, executors, job, keys, metrics, plans, sources
from regrow_host.encode import central
from regrow_host.executors import Executor
from regrow_host.job import Job, Plan
from regrow_host.metrics import Comparison
from regrow_host.options import Layer, Way
from regrow_host.packing import NewPart
from regrow_host.plans import Planner

CODECS = "auto", "central", "grid", "raw"
UNITS = {"unitary": central.UNITARY, "layer": central.LAYER, "batch": central.BATCH}
RESTORATIONS = {"uniform": central.UNIFORM, "mean": central.MEAN}
RUNTIMES = {USE_LITERT: "litert", USE_EXECUTOR: "executor", USE_BOTH: "both"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL.tflite")
    add("--data", type=Path, required=True, metavar="EVAL.npz", help="samples x in real units, labels y")
    add("--calib", type=Path, metavar="CALIB.npz", help="unlabelled samples x (default: a part of --data)")
    add("-o", "--output", type=Path, required=True, metavar="OUT.rgp")
    add("--codec", choices=CODECS, default="auto")
    add("--unit", choices=UNITS, default="batch", help="of codec central (default %(default)s)")
    add("--restore", choices=RESTORATIONS, default="uniform", help="of codec central (default %(default)s)")
    add(
        "--batch-size",
        default="auto",
        type=_batch_size,
        metavar="auto|N",
        help="of codec central, unit batch",
    )
    add(
        "--layers",
        type=_layers,
        metavar="dense|all|N,N,...",
        help="to compress (default: dense for central, else all)",
    )
    add(
        "--max-drop",
        type=_drop,
        default=0.5,
        metavar="POINTS",
        help="allowed loss (default 0.5)",
    )
    add("--target", choices=("pi", "board", "both"), default="both", help="(default both)")
    add("--metric", choices=("auto", *metrics.METRICS), default="auto")
    add("--name", help="of the model (default: the file's)")
    add("--version", type=int, default=1, help="counter, must grow from release to release (default 1)")
    add("--key", type=Path, help="private key to sign with (default: yours)")
    add(
        "--executor",
        metavar="processes|dask://HOST:PORT",
        help="where to search (default: the cores of this machine)",
    )
    add("--finetune", action="store_true", help="tune the weights, for fewer bytes; takes minutes and keras")
    add("--seed", type=int, default=0, help="of splits and grown weights (default 0)")
    add("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    started = time.monotonic()
    result = compress(args)
    result["seconds"] = round(time.monotonic() - started, 1)
    if args.json:
        console.show_json(result)
    else:
        _show(result)
    return 0


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if text.isascii() and text.isdigit() and 1 <= int(text) < 1 << 31:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor a number of weights")


def _drop(text: str) -> float:
    with suppress(ValueError):
        if 0 <= float(text) <= 100:
            return float(text)
    raise argparse.ArgumentTypeError(f"must be 0 to 100 percentage points, not {text}")


def _layers(text: str) -> str | frozenset[int]:
    if text in ("dense", "all"):
        return text
    if re.fullmatch(r"\d+(,\d+)*", text, re.ASCII):
        return frozenset(map(int, text.split(",")))
    raise argparse.ArgumentTypeError(f"{text!r} is neither dense, all nor numbers of weight tensors")


def compress(args: argparse.Namespace) -> dict[str, Any]:
    """Write the pack and return what `--json` prints. Raises RegrowError, then nothing is written."""
    name = _pack_name(args)
    if not args.output.parent.is_dir():
        raise InputError(f"the folder {args.output.parent} for the pack does not exist")
    if args.finetune:
        _check_tuning(args)
    work = job.prepare(
        args.model,
        args.data,
        args.calib,
        metric=args.metric,
        target=args.target,
        max_drop=args.max_drop,
        seed=args.seed,
        tuned=args.finetune,
    )
    key = keys.signing_key(args.key)
    planner = Planner(
        work, plans.select(work, args.layers or ("dense" if args.codec == "central" else "all"))
    )
    where = args.executor or ("processes" if work.heavy else "here")
    with executors.open_executor(where) as executor:
        chosen = _plans(planner, args, executor)
        if args.finetune:
            chosen = planner.tuned(chosen)
        plan, drops = plans.take(work, chosen, forced=args.batch_size is not None)
    head, parts = assemble.write(work, plan, args.output, name, args.version, key=key)
    sources.remember(head.id, work.source)
    size = len(head.data) + sum(len(part.data) for part in parts)
    before = args.model.stat().st_size
    weights = [part for part in parts if part.role == ROLE_WEIGHTS]
    return {
        "file": str(args.output),
        "id": head.id.hex(),
        "bytes": size,
        "weights_bytes": sum(len(part.data) for part in weights),
        "source_bytes": before,
        "ratio": before / size,
        **asdict(drops[0]),
        "runtimes": _runtimes(work, drops),
        "labels": work.held_out.labelled,
        "batch_size": plan.batch_size,
        "tried": [asdict(trial) for trial in planner.trials],
        "layers": [_layer(layer, plan, weights) for layer in work.layers],
        "warnings": work.warnings,
    }


def _check_tuning(args: argparse.Namespace) -> None:
    if args.codec not in ("auto", "grid"):
        raise InputError(f"--finetune tunes levels, which codec {args.codec} has none of: use auto or grid")
    if not all(map(importlib.util.find_spec, ("keras", "jax"))):
        raise InputError("--finetune needs keras and jax: pip install 'regrow[finetune]'")


def _pack_name(args: argparse.Namespace) -> str:
    name: str = args.name or re.sub(r"[^A-Za-z0-9._-]", "-", args.model.stem).lstrip(".")[:64] or "model"
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", name):
        raise InputError(f"the name {name!r} must be 1 to 64 of A-Z a-z 0-9 . _ - and not start with a dot")
    if not 1 <= args.version < 1 << 31:
        raise InputError(f"the version {args.version} must be 1 to 2147483647")
    return name


def _plans(planner: Planner, args: argparse.Namespace, executor: Executor) -> Iterator[Plan]:
    """The plans of the chosen codec, from the fewest bytes to the safest."""
    if args.codec == "raw":
        yield planner.exact()
    elif args.codec != "central":
        yield from planner.priced(args.codec == "auto", executor)
    else:
        way = Way(UNITS[args.unit], RESTORATIONS[args.restore], seed=args.seed)
        if args.unit == "batch" and args.batch_size is None:
            yield from planner.threshold(way)
        else:
            yield planner.central(way, args.batch_size if args.unit == "batch" else None)


def _runtimes(work: Job, drops: Sequence[Comparison]) -> dict[str, Any]:
    """The comparison of each runtime; an int8 source is the same network on both."""
    return {
        RUNTIMES[use]: asdict(drop)
        for network, drop in zip(work.networks, drops, strict=True)
        for use in (USE_LITERT, USE_EXECUTOR)
        if use & network.use
    }


def _layer(layer: Layer, plan: Plan, weights: Sequence[NewPart]) -> dict[str, Any]:
    size = sum(len(part.data) for part in weights if part.number == layer.number)
    return {
        "number": layer.number,
        "name": layer.name,
        "kind": layer.kind,
        "codec": plan.chosen[layer.number].codec,
        "weights": layer.values.size,
        "bytes": size,
        "bits": 8 * size / layer.values.size,
    }


def _show(result: dict[str, Any]) -> None:
    columns = "number", "name", "kind", "codec", "weights", "bytes"
    layers = [[*(each[column] for column in columns), f"{each['bits']:.2f}"] for each in result["layers"]]
    console.show_table("weights", ("#", *columns[1:], "bits"), layers)
    console.show_comparisons(result["runtimes"], "held-out samples")
    console.show(
        f"{result['file']}: {result['bytes']:,} bytes ({result['weights_bytes']:,} of weights), "
        f"1/{result['ratio']:.1f} of the source's {result['source_bytes']:,}, in {result['seconds']} s"
    )
