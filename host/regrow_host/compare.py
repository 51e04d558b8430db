"""`regrow compare`: regrow's codecs beside other ways to make a model small, in one table and one plot."""

import argparse
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from regrow_host import console, contenders, job, metrics, nncodec, plot
from regrow_host.contenders import Contender
from regrow_host.job import Job
from regrow_host.runner import Runner


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL.tflite")
    add("--data", type=Path, required=True, metavar="EVAL.npz", help="samples x in real units and labels y")
    add("--calib", type=Path, metavar="CALIB.npz", help="unlabelled samples x (default: a part of --data)")
    add("--metric", choices=("auto", *metrics.METRICS), default="auto")
    add(
        "--nncodec",
        type=Path,
        default=Path(sys.executable),
        metavar="PYTHON",
        help="an interpreter that has nncodec (default: this one, if it has)",
    )
    add(
        "-o",
        "--output",
        type=Path,
        metavar="PLOT.svg",
        help="of the curves, .svg, .png or .pdf (default: the model's name)",
    )
    add("--seed", type=int, default=0, help="of splits and grown weights (default 0)")
    add("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    output = args.output or Path(args.model.stem + ".svg")
    plot.check(output)
    result = compare(args)
    plot.rate_accuracy(output, [(args.model.name, result)])
    if args.json:
        console.show_json(result | {"plot": str(output)})
    else:
        _show(result)
        console.show(f"{output}: the curves")
    return 0


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """What `--json` prints. Raises RegrowError."""
    work = job.prepare(
        args.model,
        args.data,
        args.calib,
        metric=args.metric,
        target="pi",
        max_drop=0,
        seed=args.seed,
    )
    source = work.held_out.outputs(Runner(work.source))
    points = []
    for each in _contenders(work, args.nncodec):
        drop = work.held_out.compare(source, work.held_out.outputs(Runner(each.model)))
        figures = {name: getattr(drop, name) for name in ("pack", "drop", "low", "high")}
        points.append({"method": each.method, "setting": each.setting, "bytes": each.weights, **figures})
    judged = {"metric": drop.metric, "samples": drop.samples, "source": drop.source}
    return {**judged, "points": points, "warnings": work.warnings}


def _contenders(work: Job, python: Path) -> Iterator[Contender]:
    yield from contenders.files(work)
    auto = contenders.curve(work)
    yield from contenders.codecs(work, auto)
    if not nncodec.available(python):
        console.note("nncodec is not installed: name an interpreter that has it by --nncodec")
        return
    with console.progress() as bar:
        task = bar.add_task("trying what nncodec can be set to", total=None)

        def step(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield from contenders.coded_by_nncodec(work, python, step)
        yield from contenders.fed_to_nncodec(work, auto, python, step)


def _show(result: dict[str, Any]) -> None:
    columns = "method", "setting", "bytes", result["metric"], "drop, points", "95 % interval"
    rows = [
        (
            each["method"],
            each["setting"],
            f"{each['bytes']:,}",
            f"{each['pack']:.4f}",
            f"{each['drop']:+.2f}",
            f"{each['low']:+.2f} to {each['high']:+.2f}",
        )
        for each in _worth_showing(result["points"])
    ]
    console.show_table(
        f"bytes of the weights, and accuracy on {result['samples']} held-out samples", columns, rows
    )


def _worth_showing(points: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """By method, from the fewest bytes: what the plot has room for, or else what loses least."""
    for _, group in groupby(points, lambda each: str(each["method"])):
        own = sorted(group, key=lambda each: int(each["bytes"]))
        least = min(each["drop"] for each in own)
        yield from (each for each in own if each["drop"] <= max(plot.MOST_DROP, least))
