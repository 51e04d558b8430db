"""Past the report: regrow's codecs beside central weights, at the same loss and at half a point."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import regrow
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray
from regrow import Network, energy

import regrow_host
from regrow_host import data, metrics, tflite
from regrow_host.files import temporary_folder
from regrow_host.judge import Judge, divergence
from regrow_host.runner import Floats, Runner
from regrow_host.study import commands, models, plots, threshold
from regrow_host.study import subject as subjects
from regrow_host.study.experiment import Figure, Outcome, Outcomes, Table
from regrow_host.study.lab import Lab, Result, Settings, trial
from regrow_host.study.subject import Subject

TITLE = "Past the report: regrow's codecs"
QUESTION = "What do regrow's codecs need for the accuracy that centralization keeps, and for half a point?"
METHOD = (
    "`regrow compress --target pi` writes a whole pack each time, all bytes counted: `central` as the report "
    "has it (dense layers, uniform) at the threshold batch size and in batches of 2, the smallest that save "
    "anything; `auto` allowed no loss, the loss of the pack at the threshold, and half a point; `raw` as the "
    "measure. `compress` has up to 2,000 test samples to search and to check with. Packs are judged on the "
    "test samples beyond these, where the data set has more; else on those that it checks with, of which its "
    "search sees nothing. Log-loss is the mean of -log of the probability (at least 1/512) of the right "
    "class: it counts how sure answers are, and tells packs apart that are right on as many samples. Energy "
    "is that of one inference with LiteRT on the machine that ran the study; its source is named."
)

HALF = 0.5
LEAST = 2
INFERENCES = 300
NAMES = {
    "central": "central, at its threshold",
    "pairs": "central, batches of 2",
    "none": "auto, no loss",
    "same": "auto, the threshold's loss",
    "auto": "auto, 0.5 point",
    "raw": "raw",
}

METHODS = "central", "pairs"
OWN = "none", "auto"
"""The packs of the report's method, and those of `auto` that are set beside them."""

Pair = tuple[float, float, float]
"""A paired difference, and its 95 % interval."""


@dataclass(frozen=True)
class Packing:
    """A subject, whose samples `regrow compress` has, and those that judge its packs."""

    subject: Subject
    judge: Judge

    @property
    def digest(self) -> str:
        x, y = np.ascontiguousarray(self.judge.samples.x), np.ascontiguousarray(self.judge.labels)
        whole = hashlib.sha256(f"{self.subject.digest} {x.dtype} {x.shape}".encode())
        whole.update(x.tobytes() + y.tobytes())
        return whole.hexdigest()


def _energy(network: Network, x: Floats) -> Result:
    """Millijoules and milliseconds of one inference with LiteRT, and the energy's source."""
    samples = x[:INFERENCES]
    network.predict(samples[0])
    meter = energy.meter()
    before, started = meter.joules(), time.monotonic()
    for sample in samples:
        network.predict(sample)
    spent, taken = meter.joules() - before, time.monotonic() - started
    return {
        "energy_mj": 1000 * spent / len(samples),
        "latency_ms": 1000 * taken / len(samples),
        "energy_source": meter.source,
    }


def log_losses(outputs: Floats, y: NDArray[Any]) -> NDArray[np.float64]:
    """Per sample -log of the probability of its class, in nats."""
    p = metrics.probabilities(outputs.reshape(len(outputs), -1))
    return np.asarray(-np.log(p[np.arange(len(y)), y.astype(int)]))


@trial(regrow, regrow_host, commands, _energy, log_losses)
def measure(packing: Packing, settings: Settings) -> Result:
    """`arguments` of `regrow compress`; the result is what its --json says of the pack, and what the judge
    says of it: `scores` and `losses` sample by sample, which only serve to compare packs.
    """
    subject, judge = packing.subject, packing.judge
    with temporary_folder() as name:
        words = ["--target", "pi", "--seed", str(settings["seed"]), *settings["arguments"]]
        pack, _, result = commands.compress(subject, words, name)
        with regrow.load(pack, "litert") as network:
            outputs = judge.outputs(lambda x: np.stack([network.predict(sample) for sample in x]))
            spent = _energy(network, judge.inputs)
    source = judge.outputs(Runner(subject.model))
    compared = judge.compare(source, outputs)
    losses = np.zeros(0) if judge.metric == "auc" else log_losses(outputs, judge.labels)
    return {
        "bytes": result["bytes"],
        "weights_bytes": result["weights_bytes"],
        "bits": 8 * result["weights_bytes"] / sum(layer["weights"] for layer in result["layers"]),
        "allowed": result["drop"],
        "batch_size": result["batch_size"],
        "source": 100 * compared.source,
        "pack": 100 * compared.pack,
        "drop": compared.drop,
        "log-loss": float(np.mean(losses)) if len(losses) else None,
        "divergence": divergence(judge.metric, source, outputs),
        **spent,
        "scores": judge.scores(outputs).tolist(),
        "losses": np.round(losses, 6).tolist(),
    }


def run(lab: Lab, subject: Subject) -> Outcome:
    found = threshold.first(threshold.run(lab, subject))
    size = found["size"] if found else 1
    layers = subject.selections[0] if subject.selections[0] == "dense" else "all"
    central = ["--codec", "central", "--layers", layers, "--max-drop", "100", "--batch-size"]
    words = {
        "central": [*central, str(size)],
        "pairs": [*central, str(LEAST)],
        "none": ["--codec", "auto", "--max-drop", "0"],
        "auto": ["--codec", "auto", "--max-drop", str(HALF)],
        "raw": ["--codec", "raw"],
    }
    judge = _judge(subject, lab.seed)
    packing = Packing(subject, judge)
    packs = _packs(lab, packing, words)
    lost = max(0.0, packs["central"]["allowed"])
    if lost:
        packs |= _packs(lab, packing, {"same": ["--codec", "auto", "--max-drop", f"{lost:.4f}"]})
    told = {name: packs[name] for name in NAMES if name in packs}
    return {
        "packs": {
            name: {key: value for key, value in pack.items() if key not in ("scores", "losses")}
            for name, pack in told.items()
        },
        "beside": {
            own: {method: _beside(judge, packs[method], packs[own]) for method in METHODS} for own in OWN
        },
        "samples": len(judge.samples),
        "source bytes": len(subject.model),
        "operators": len(tflite.read(subject.model).operators),
    }


def _judge(subject: Subject, seed: int) -> Judge:
    """Of packs: the test samples that `compress` is not given, if they are as many as it checks with."""
    _, checking = data.split(commands.samples(subject), seed, Path(subject.source))
    rest = subjects.beyond(models.find(subject.name), subject, seed)
    return subject.held_out.on(rest if rest and len(rest) >= len(checking) else checking)


def _packs(lab: Lab, packing: Packing, words: Mapping[str, Sequence[str]]) -> dict[str, Result]:
    settings: list[Settings] = [{"arguments": each, "seed": lab.seed} for each in words.values()]
    return dict(zip(words, lab.map("compressing", measure, packing, settings), strict=True))


def _beside(judge: Judge, method: Result, own: Result) -> dict[str, Pair | None]:
    """By how many points `own` is more accurate, and its log-loss lower, on the same samples."""
    ours, theirs = (np.array(each["scores"]) for each in (own, method))
    compared = metrics.compare(judge.metric, ours, theirs, judge.labels)
    less = np.array(method["losses"]) - np.array(own["losses"])
    return {
        "accuracy": (compared.drop, compared.low, compared.high),
        "log-loss": _mean(less) if len(less) else None,
    }


def _mean(values: NDArray[np.float64]) -> Pair:
    middle, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
    return middle, middle - metrics.Z95 * error, middle + metrics.Z95 * error


def figures(outcomes: Outcomes) -> list[Figure]:
    shades = plots.ORANGE, plots.RED, plots.VIOLET, plots.GREEN, plots.BLUE, plots.PALE
    colours = dict(zip(NAMES, shades, strict=True))

    def draw(canvas: Canvas) -> None:
        left, right = canvas.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        for i, outcome in enumerate(outcomes.values()):
            packs = outcome["packs"]
            rows = dict(zip(packs, i + 0.14 * (np.arange(len(packs)) - (len(packs) - 1) / 2), strict=True))
            for name, row in rows.items():
                left.barh(row, packs[name]["bytes"] / 1000, 0.13, color=colours[name])
                right.plot(packs[name]["drop"], row, "o", color=colours[name], markersize=3.5)
        for name, label in NAMES.items():
            left.barh(0, 0, 0, color=colours[name], label=label)
        left.set_yticks(range(len(outcomes)), [plots.title(model) for model in outcomes])
        left.invert_yaxis()
        left.set_xscale("log")
        left.set_xlabel("pack, KB")
        right.axvline(0, color=plots.INK, linewidth=0.6)
        right.set_xlabel("points lost")
        plots.legend(canvas, left)

    caption = "Bytes of the whole pack (logarithmic), and points lost on the samples that judge."
    return [Figure("codecs", caption, (8.2, 0.62 * len(outcomes) + 1.0), draw)]


def tables(outcomes: Outcomes) -> list[Table]:
    at_threshold = (
        "`auto` beside the report's method at its threshold batch size. Differences are paired, with their "
        "95 % interval: where 0 is in it the samples do not tell the two apart. Of the autoencoder accuracy "
        "is AUC x 100, and there is no log-loss."
    )
    in_pairs = "The same beside batches of 2, the first that save bytes."
    captions = zip(METHODS, (at_threshold, in_pairs), strict=True)
    return [*(_beside_method(outcomes, method, caption) for method, caption in captions), _all(outcomes)]


def _beside_method(outcomes: Outcomes, method: str, caption: str) -> Table:
    rows = []
    for model, outcome in outcomes.items():
        packs = outcome["packs"]
        for own in OWN:
            difference = outcome["beside"][own][method]
            rows.append(
                [
                    plots.title(model),
                    f"{outcome['samples']:,}",
                    f"{packs[method]['batch_size']:,}",
                    f"{packs[method]['pack']:.2f}",
                    NAMES[own],
                    f"{packs[own]['pack']:.2f}",
                    f"{_times_smaller(outcome, own, method):.1f}",
                    _pair(difference["accuracy"], 2),
                    _pair(difference["log-loss"], 4),
                ]
            )
    columns = (
        "model",
        "samples",
        "batches of",
        "accuracy, %",
        "beside it",
        "accuracy, %",
        "times smaller",
        "points more accurate (95 %)",
        "log-loss lower by (95 %)",
    )
    return Table(caption, columns, rows)


def _times_smaller(outcome: Outcome, own: str, method: str) -> float:
    return float(outcome["packs"][method]["bytes"] / outcome["packs"][own]["bytes"])


def _pair(pair: Pair | None, digits: int) -> str:
    if pair is None:
        return ""
    middle, low, high = (f"{each:+.{digits}f}" for each in pair)
    return f"{middle} ({low} to {high})"


def _all(outcomes: Outcomes) -> Table:
    rows = []
    for model, outcome in outcomes.items():
        for name, pack in outcome["packs"].items():
            size = f" ({pack['batch_size']:,})" if name == "central" else ""
            rows.append(
                [
                    plots.title(model),
                    NAMES[name] + size,
                    f"{pack['bytes']:,}",
                    f"{pack['bits']:.2f}",
                    f"{pack['pack']:.2f}",
                    f"{pack['drop']:+.2f}",
                    f"{pack['divergence']:.2g}",
                    f"{pack['energy_mj']:.3f}",
                ]
            )
    columns = (
        "model",
        "codec",
        "pack bytes",
        "bits a weight",
        "accuracy, %",
        "points lost",
        "moved",
        "mJ",
    )
    sources = sorted({p["energy_source"] for outcome in outcomes.values() for p in outcome["packs"].values()})
    caption = (
        "Packs for LiteRT. Moved: how far outputs are from the source's (mean Kullback-Leibler divergence in "
        "nats; of the autoencoder the mean squared difference). Energy of an inference: "
        f"{'; '.join(sources)}."
    )
    return Table(caption, columns, rows)


def finding(outcomes: Outcomes) -> str:
    every = list(outcomes.values())
    text = (
        f"Allowed no loss, `auto` is {_told(every, 'none', 'central')} than central weights at their "
        f"threshold; allowed half a point, {_told(every, 'auto', 'central')}. "
    )
    whole = [outcome for outcome in every if outcome["packs"]["central"]["batch_size"] == 1]
    if whole:
        text += (
            f"On {len(whole)} models that threshold is a batch of 1: each weight is its own mean, kept to 16 "
            "bits in the bytes of a float32. This is the source again and saves nothing; a pack can be as "
            "accurate, and more accurate by chance alone"
        )
        less = [each for o in whole if (each := o["beside"]["none"]["central"]["log-loss"])]
        lower, higher = sum(low > 0 for _, low, _ in less), sum(high < 0 for _, _, high in less)
        text += (
            f" (log-loss, the finer measure: lower on {lower} of {len(less)}, higher on {higher}). "
            if less
            else ". "
        )
    text += (
        f"Beside batches of 2, the first that save bytes and that cost {_lost(every, 'pairs')} points "
        f"(median), `auto` without loss is {_told(every, 'none', 'pairs')}; with half a point, "
        f"{_told(every, 'auto', 'pairs')}."
    )
    if raw := [plots.title(model) for model, o in outcomes.items() if _is_raw(o)]:
        text += (
            f" {', '.join(raw)}: no coarser weights kept every answer that `compress` checks, so without "
            "loss they stay float32."
        )
    return text


def _lost(outcomes: Sequence[Outcome], name: str) -> str:
    return f"{np.median([outcome['packs'][name]['drop'] for outcome in outcomes]):.0f}"


def _told(outcomes: Sequence[Outcome], own: str, method: str) -> str:
    """How much smaller `own` is, and on how many models samples tell that it is more accurate, or less."""
    ratios = [_times_smaller(outcome, own, method) for outcome in outcomes]
    pairs = [outcome["beside"][own][method]["accuracy"] for outcome in outcomes]
    more, less = sum(low > 0 for _, low, _ in pairs), sum(high < 0 for _, _, high in pairs)
    return (
        f"{min(ratios):.1f} to {max(ratios):.1f} times smaller (more accurate on {more} of {len(pairs)} "
        f"models, less on {less}, not to be told apart on {len(pairs) - more - less})"
    )


def _is_raw(outcome: Outcome) -> bool:
    """Whether `auto` without loss found nothing coarser than the source's weights."""
    return bool(outcome["packs"]["none"]["bytes"] >= outcome["packs"]["raw"]["bytes"])
