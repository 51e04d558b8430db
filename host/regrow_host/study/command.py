"""`regrow study`: run the experiments on the study's models, or train a model."""

import argparse
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from regrow.errors import InputError

from regrow_host import console, executors
from regrow_host.study import (
    augmentation,
    centralization,
    codecs,
    models,
    quantization,
    remedy,
    report,
    subject,
    threshold,
    zeros,
)
from regrow_host.study.experiment import Experiment, Outcome, Unfit
from regrow_host.study.lab import Lab
from regrow_host.study.subject import Subject
from regrow_host.study.training import train

EXPERIMENTS: dict[str, Experiment] = {
    "augmentation": augmentation,
    "quantization": quantization,
    "centralization": centralization,
    "threshold": threshold,
    "remedy": remedy,
    "zeros": zeros,
    "codecs": codecs,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "words",
        nargs="*",
        metavar="EXPERIMENT",
        help=f"{', '.join(EXPERIMENTS)} (default: all), or `train MODEL...`",
    )
    add(
        "--models",
        default="small",
        metavar="NAME,...",
        help=f"small (default), all, or of {', '.join(models.SPECS)}",
    )
    add("--out", type=Path, default=Path("study"), metavar="DIR", help="for the report (default: study)")
    add("--executor", default="processes", metavar="processes|dask://HOST:PORT", help="where trials run")
    add("--csv", type=Path, metavar="FILE", help="of train: the data set, where no public loader has it")
    add("--seed", type=int, default=0, help="of samples, changes and grown weights (default 0)")
    add("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    if args.words[:1] == ["train"]:
        return _train(args.words[1:], args.csv, args.json)
    chosen = _chosen(args.words)
    with _interrupted_by_termination():
        studied = _subjects(args.models, args.seed)
        report.make_folder(args.out)
        outcomes, counts = _outcomes(chosen, studied, args.executor, args.seed)
    result = report.write(
        args.out, {name: EXPERIMENTS[name] for name in chosen}, outcomes, studied, args.seed
    )
    if args.json:
        console.show_json(result)
    else:
        for name in chosen:
            console.show(f"{EXPERIMENTS[name].TITLE}: {result['experiments'][name]['finding']}\n")
        console.show(f"{counts}; {args.out / report.PAGE}")
    return 0


def _train(names: Sequence[str], csv: Path | None, as_json: bool) -> int:
    if not names:
        raise InputError(f"name what to train: {', '.join(train.SCRIPTS)}")
    for each in names:
        models.find(each)
    reached = {each: train.train(each, csv) for each in names}
    if as_json:
        console.show_json(reached)
    else:
        reports = [models.SPECS[name].reported for name in reached]
        rows = [
            (name, f"{accuracy:.2f}", f"{reported.original:.2f}" if reported else "")
            for (name, accuracy), reported in zip(reached.items(), reports, strict=True)
        ]
        console.show_table("trained", ("model", "accuracy, %", "the report's"), rows)
    return 0


def _chosen(words: Sequence[str]) -> list[str]:
    unknown = [word for word in words if word not in EXPERIMENTS]
    if unknown:
        raise InputError(
            f"there is no experiment {unknown[0]!r}: they are {', '.join(EXPERIMENTS)}, and train"
        )
    return [name for name in EXPERIMENTS if name in words] or list(EXPERIMENTS)


def _subjects(names: str, seed: int) -> list[Subject]:
    """Models that were named must be there; of a group those that are."""
    groups = {"all": list(models.SPECS.values()), "small": [s for s in models.SPECS.values() if s.small]}
    if names not in groups:
        return [subject.load(models.find(name), seed) for name in dict.fromkeys(names.split(","))]
    found, missing = [], []
    for spec in groups[names]:
        try:
            found.append(subject.load(spec, seed))
        except InputError as error:
            missing.append(str(error))
    if not found:
        raise InputError(missing[0])
    for sentence in missing:
        console.warn(f"{sentence} (left out)")
    return found


def _outcomes(
    chosen: Sequence[str], studied: Sequence[Subject], where: str, seed: int
) -> tuple[dict[str, Mapping[str, Outcome]], str]:
    """Per experiment and model what was found, and a line on the trials."""
    outcomes: dict[str, Mapping[str, Outcome]] = {}
    with console.progress() as bar, executors.open_executor(where) as executor:
        lab = Lab(executor, seed, bar)
        task = bar.add_task("", total=len(chosen) * len(studied))
        for name in chosen:
            outcomes[name] = own = {}
            for each in studied:
                bar.update(task, description=f"{name}, {each.name}")
                try:
                    own[each.name] = EXPERIMENTS[name].run(lab, each)
                except Unfit as error:
                    console.warn(f"{name} leaves out {each.name}: {error}")
                bar.advance(task)
    return outcomes, f"{lab.done:,} trials run, {lab.found:,} found in the cache"


@contextmanager
def _interrupted_by_termination() -> Iterator[None]:
    """SIGTERM ends the work as Ctrl-C does: finished trials are kept, workers end."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
