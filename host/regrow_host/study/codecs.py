"""Past the report: regrow's codecs beside central weights, at the same loss and at half a point."""

import time
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
from regrow_host.study import commands, plots, threshold
from regrow_host.study.experiment import Figure, Outcome, Outcomes, Table
from regrow_host.study.lab import Lab, Result, Settings, trial
from regrow_host.study.subject import Subject

TITLE = "Past the report: regrow's codecs"
QUESTION = "What do regrow's codecs need for the accuracy that centralization keeps, and for half a point?"
METHOD = (
    "`regrow compress --target pi` writes a whole pack each time, all bytes counted: `central` as the report "
    "has it (dense layers, uniform) at the threshold batch size and in batches of 2, the least that save "
    "anything; `auto` allowed the very loss of the pack at the threshold, and half a point; `raw` as the "
    "measure. Accuracy is that of the samples which took no part in any search. Energy is that of one "
    "inference with LiteRT on the machine that ran the study; its source is named."
)

HALF = 0.5
LEAST = 2
INFERENCES = 300
NAMES = {
    "central": "central, at its threshold",
    "pairs": "central, batches of 2",
    "same": "auto, no more loss than at the threshold",
    "auto": "auto, 0.5 point",
    "raw": "raw",
}


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


def _finely(source: bytes, network: Network, searching: Judge, held_out: Judge) -> Result:
    """What tells packs apart whose accuracy is the same: how far outputs move, and how sure they are."""

    def predict(x: Floats) -> Floats:
        return np.stack([network.predict(sample) for sample in x])

    outputs = held_out.outputs(predict)
    return {
        "searching": 100 * searching.figure(searching.outputs(predict)),
        "divergence": divergence(held_out.metric, held_out.outputs(Runner(source)), outputs),
        "margin": None if held_out.metric == "auc" else 100 * margin(outputs, held_out.labels),
    }


def margin(outputs: Floats, y: NDArray[Any]) -> float:
    """By how much the probability of the right class is above that of the likeliest other one, on average."""
    p = metrics.probabilities(outputs.reshape(len(outputs), -1))
    own = np.arange(len(y)), y.astype(int)
    right = p[own]
    p[own] = 0
    return float((right - p.max(axis=1)).mean())


@trial(regrow, regrow_host, commands, _energy, _finely, margin)
def measure(subject: Subject, settings: Settings) -> Result:
    """`arguments` of `regrow compress`; the result is what its --json says of the pack, and more."""
    with temporary_folder() as name:
        words = ["--target", "pi", "--seed", str(settings["seed"]), *settings["arguments"]]
        pack, path, result = commands.compress(subject, words, name)
        samples = data.split(data.load_npz(path), settings["seed"], path)
        searching, held_out = map(subject.searching.on, samples)
        weights = sum(layer["weights"] for layer in result["layers"])
        with regrow.load(pack, "litert") as network:
            return {
                "bytes": result["bytes"],
                "weights_bytes": result["weights_bytes"],
                "bits": 8 * result["weights_bytes"] / weights,
                "source": 100 * result["source"],
                "pack": 100 * result["pack"],
                "drop": result["drop"],
                "samples": result["samples"],
                "batch_size": result["batch_size"],
                **_energy(network, held_out.inputs),
                **_finely(subject.model, network, searching, held_out),
            }


def run(lab: Lab, subject: Subject) -> Outcome:
    found = threshold.first(threshold.run(lab, subject))
    size = found["size"] if found else 1
    layers = subject.selections[0] if subject.selections[0] == "dense" else "all"
    central = ["--codec", "central", "--layers", layers, "--max-drop", "100", "--batch-size"]
    words = {
        "central": [*central, str(size)],
        "pairs": [*central, str(LEAST)],
        "auto": ["--codec", "auto", "--max-drop", str(HALF)],
        "raw": ["--codec", "raw"],
    }
    results = lab.map(
        "compressing", measure, subject, [{"arguments": each, "seed": lab.seed} for each in words.values()]
    )
    packs = dict(zip(words, results, strict=True))
    lost = max(0.0, packs["central"]["drop"])
    same = ["--codec", "auto", "--max-drop", f"{lost:.4f}"]
    (packs["same"],) = lab.map("compressing", measure, subject, [{"arguments": same, "seed": lab.seed}])
    source = tflite.read(subject.model)
    return {
        "packs": {name: packs[name] for name in NAMES},
        "allowed": lost,
        "source bytes": len(subject.model),
        "operators": len(source.operators),
    }


def figures(outcomes: Outcomes) -> list[Figure]:
    colours = dict(zip(NAMES, (plots.ORANGE, plots.RED, plots.GREEN, plots.BLUE, plots.PALE), strict=True))

    def draw(canvas: Canvas) -> None:
        left, right = canvas.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        for place, (name, label) in enumerate(NAMES.items()):
            rows = np.arange(len(outcomes)) + 0.16 * (place - 2)
            packs = [outcome["packs"][name] for outcome in outcomes.values()]
            left.barh(rows, [pack["bytes"] / 1000 for pack in packs], 0.15, color=colours[name], label=label)
            right.plot([pack["drop"] for pack in packs], rows, "o", color=colours[name], markersize=3.5)
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
    return [_beside(outcomes), _all(outcomes)]


def _beside(outcomes: Outcomes) -> Table:
    rows = []
    for model, outcome in outcomes.items():
        method, own = _both(outcome)
        size = f"{method['batch_size']:,}"
        rows.append([plots.title(model), size, *_figures(method), *_figures(own), _verdict(outcome)])
    figures = "bytes", "accuracy, %", "margin"
    columns = (
        "model",
        "batch size",
        *(f"central: {each}" for each in figures),
        *(f"auto: {each}" for each in figures),
        "auto is",
    )
    caption = (
        "Central weights at the threshold beside `auto`, allowed what these lose but half a point at most. "
        "Margin: the points of probability by which the right class is ahead, on average."
    )
    return Table(caption, columns, rows)


def _both(outcome: Outcome) -> tuple[Result, Result]:
    """The method's pack at its threshold, and that of `auto` which was allowed no more, nor than HALF."""
    packs = outcome["packs"]
    return packs["central"], packs["auto" if outcome["allowed"] > HALF else "same"]


def _figures(pack: Result) -> list[str]:
    margin = "" if pack["margin"] is None else f"{pack['margin']:.2f}"
    return [f"{pack['bytes']:,}", f"{pack['pack']:.2f}", margin]


def _ahead(outcome: Outcome) -> float:
    """By how many points `auto` is more accurate than the method; of equal ones 0."""
    method, own = _both(outcome)
    return float(round(own["pack"] - method["pack"], 4))


def _surer(outcome: Outcome) -> bool:
    method, own = _both(outcome)
    return own["margin"] is not None and own["margin"] > method["margin"]


def _verdict(outcome: Outcome) -> str:
    """What `auto` is beside the method."""
    (method, own), ahead = _both(outcome), _ahead(outcome)
    size = "smaller" if own["bytes"] < method["bytes"] else "larger"
    if ahead:
        return f"{size}, {abs(ahead):.2f} points {'more' if ahead > 0 else 'less'} accurate"
    if own["margin"] is None:
        return f"{size}, as accurate"
    margin = "larger" if _surer(outcome) else "smaller"
    return f"{size}, right on as many samples, by a {margin} margin"


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
                    f"{pack['divergence']:.1g}",
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
    packs = [outcome["packs"] for outcome in every]
    ratios = [method["bytes"] / own["bytes"] for method, own in map(_both, every)]
    pairs = [each["pairs"]["bytes"] / each["auto"]["bytes"] for each in packs]
    lost = {name: float(np.median([each[name]["drop"] for each in packs])) for name in NAMES}
    more, less = (sum(sign * _ahead(outcome) > 0 for outcome in every) for sign in (1, -1))
    equal = [outcome for outcome in every if _ahead(outcome) == 0]
    text = (
        f"Allowed what central weights lose at their threshold, but half a point at most, `auto` is "
        f"{min(ratios):.1f} to {max(ratios):.1f} times smaller; of {len(every)} models it is more accurate "
        f"on {more}, right on as many samples on {len(equal)}, worse on {less}. "
    )
    if equal and all(outcome["packs"]["central"]["batch_size"] == 1 for outcome in equal):
        text += (
            "Right on as many are models whose threshold is a batch of 1, which is the source itself: each "
            "weight is kept to 16 bits, in the bytes of a float32. Its outputs are the nearer ones (moved), "
            f"yet the margin of `auto` is larger on {sum(map(_surer, equal))} of these. "
        )
    return text + (
        f"Beside batches of 2, which lose {lost['pairs']:.0f} points (median), `auto` at half a point is "
        f"{min(pairs):.1f} to {max(pairs):.1f} times smaller and loses {lost['auto']:.2f}."
    )
