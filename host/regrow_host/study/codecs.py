"""Past the report: regrow's codecs beside central weights, at the same loss and at half a point."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import regrow
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray
from regrow import energy

import regrow_host
from regrow_host import tflite
from regrow_host.data import load_npz
from regrow_host.files import temporary_folder
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


def _energy(pack: Path, x: NDArray[Any]) -> Result:
    """Millijoules and milliseconds of one inference with LiteRT, and the energy's source."""
    with regrow.load(pack, "litert") as network:
        samples = x.reshape(-1, *network.inputs[0].shape)[:INFERENCES].astype(np.float32)
        network.predict(samples[:1])
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


@trial(regrow, regrow_host, commands, _energy)
def measure(subject: Subject, settings: Settings) -> Result:
    """`arguments` of `regrow compress`; the result is what its --json says of the pack, and energy."""
    with temporary_folder() as name:
        pack, data, result = commands.compress(subject, ["--target", "pi", *settings["arguments"]], name)
        x = load_npz(data).x
        weights = sum(layer["weights"] for layer in result["layers"])
        return {
            "bytes": result["bytes"],
            "weights_bytes": result["weights_bytes"],
            "bits": 8 * result["weights_bytes"] / weights,
            "source": 100 * result["source"],
            "pack": 100 * result["pack"],
            "drop": result["drop"],
            "samples": result["samples"],
            "batch_size": result["batch_size"],
            **_energy(pack, x),
        }


def run(lab: Lab, subject: Subject) -> Outcome:
    found = threshold.first(threshold.run(lab, subject))
    size = found["size"] if found else 1
    layers = subject.selections[0] if subject.selections[0] == "dense" else "all"
    seed = ["--seed", str(lab.seed)]
    central = ["--codec", "central", "--layers", layers, "--max-drop", "100", "--batch-size"]
    words = {
        "central": [*central, str(size)],
        "pairs": [*central, str(LEAST)],
        "auto": ["--codec", "auto", "--max-drop", str(HALF)],
        "raw": ["--codec", "raw"],
    }
    results = lab.map(
        "compressing", measure, subject, [{"arguments": each + seed} for each in words.values()]
    )
    packs = dict(zip(words, results, strict=True))
    lost = max(0.0, packs["central"]["drop"])
    same = ["--codec", "auto", "--max-drop", f"{lost:.4f}", *seed]
    (packs["same"],) = lab.map("compressing", measure, subject, [{"arguments": same}])
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
    rows = []
    for model, outcome in outcomes.items():
        for name, pack in outcome["packs"].items():
            size = f" ({pack['batch_size']:,})" if pack["batch_size"] else ""
            rows.append(
                [
                    plots.title(model),
                    NAMES[name] + size,
                    f"{pack['bytes']:,}",
                    f"{pack['bits']:.2f}",
                    f"{pack['pack']:.2f}",
                    f"{pack['drop']:+.2f}",
                    f"{pack['energy_mj']:.3f}",
                    f"{pack['latency_ms']:.2f}",
                ]
            )
    columns = ("model", "codec", "pack bytes", "bits a weight", "accuracy, %", "points lost", "mJ", "ms")
    sources = sorted({p["energy_source"] for outcome in outcomes.values() for p in outcome["packs"].values()})
    caption = f"Packs for LiteRT. Energy of an inference: {'; '.join(sources)}."
    return [Table(caption, columns, rows)]


def finding(outcomes: Outcomes) -> str:
    packs = {model: outcome["packs"] for model, outcome in outcomes.items()}
    better = [
        model
        for model, each in packs.items()
        if each["same"]["bytes"] < each["central"]["bytes"]
        and each["same"]["pack"] >= each["central"]["pack"]
    ]
    same = [each["central"]["bytes"] / each["same"]["bytes"] for each in packs.values()]
    pairs = [each["pairs"]["bytes"] / each["auto"]["bytes"] for each in packs.values()]
    lossy = [each for each in packs.values() if each["central"]["drop"] > 0]
    above = sum(each["same"]["pack"] > each["central"]["pack"] for each in lossy)
    drops = {name: float(np.median([each[name]["drop"] for each in packs.values()])) for name in NAMES}
    text = (
        f"Allowed what central weights lose at their threshold, `auto` is {min(same):.1f} to {max(same):.1f} "
        f"times smaller and at least as accurate on {len(better)} of {len(packs)} models: more accurate on "
        f"{above} of the {len(lossy)} where they lose anything, equal where batches of 1 keep every weight. "
        f"Beside batches of 2, which lose {drops['pairs']:.0f} points (median), `auto` at half a point is "
        f"{min(pairs):.1f} to {max(pairs):.1f} times smaller and loses {drops['auto']:.2f}."
    )
    others = [plots.title(model) for model in packs if model not in better]
    return text + (f" Not on: {', '.join(others)}." if others else "")
