"""`regrow eval`: what a pack loses against its source on labelled samples."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import regrow
from regrow.errors import BackendError, InputError, RegrowError
from regrow.pack import Pack

from regrow_host import console, data, metrics, sources
from regrow_host.judge import Judge
from regrow_host.packfile import open_trusted
from regrow_host.runner import Floats, Predict, Runner


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("pack", type=Path, metavar="PACK.rgp")
    add("--data", type=Path, required=True, metavar="EVAL.npz", help="samples x in real units and labels y")
    add("--source", type=Path, metavar="MODEL.tflite", help="(default: remembered from compress)")
    add("--backend", choices=("litert", "numpy"), help="(default: LiteRT if the pack is made for it)")
    add("--metric", choices=("auto", *metrics.METRICS), default="auto")
    add("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    result = evaluate(args.pack, args.data, args.source, args.backend, args.metric)
    if args.json:
        console.show_json(result)
    elif result["source"] is None:
        console.show(f"{result['metric']} of the pack: {result['pack']:.4f} on {result['samples']} samples")
    else:
        console.show_comparisons({result["backend"]: result}, "samples")
    return 0


def evaluate(
    path: Path, samples: Path, source: Path | None = None, backend: str | None = None, metric: str = "auto"
) -> dict[str, Any]:
    """What `--json` prints; source, drop and its interval are None where the source is not known.

    Raises RegrowError.
    """
    with open_trusted(path) as pack, regrow.load(pack, backend) as network:
        shapes = network.inputs[0].shape, network.outputs[0].shape
        judge = Judge.of(data.load_npz(samples), metric, shapes, samples)
        runner = _source(pack, source)
        if runner and (runner.input_shape, runner.output_shape) != shapes:
            raise InputError(
                f"{source} is not the source of this pack: its inputs or outputs have other shapes"
            )
        if not (runner or judge.labelled):
            raise InputError(f"{samples} has no labels y, and the source of this pack is not known: give one")
        own = _outputs(judge, "the pack", network.predict)
    reference = _outputs(judge, "the source", runner) if runner else None
    if reference is not None and not judge.labelled:
        console.warn("the data has no labels y: the drop is the disagreement with the source")
        judge = judge.answered(reference)
    result = {"metric": judge.metric, "samples": len(judge.samples), "backend": network.backend}
    if reference is None:
        console.warn("the source of this pack is not known here: give it by --source to see the drop")
        unknown = dict.fromkeys(("drop", "low", "high"))
        return result | {"source": None, "pack": judge.figure(own), **unknown}
    return result | asdict(judge.compare(reference, own))


def _source(pack: Pack, path: Path | None) -> Runner | None:
    if path is None:
        remembered = sources.recall(pack.head.id)
        return Runner(remembered) if remembered else None
    try:
        return Runner(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read the model {path}: {error.strerror}") from None
    except RegrowError as error:
        raise BackendError(f"{path}: {error}") from None


def _outputs(judge: Judge, what: str, predict: Predict) -> Floats:
    with console.progress() as bar:
        task = bar.add_task(f"running {what}", total=len(judge.inputs))
        return judge.outputs(predict, lambda done: bar.advance(task, done))
