"""Centralization: the whole network, layer by layer, and batch by batch."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from regrow_host.encode import central
from regrow_host.study import centralizing, paths, plots
from regrow_host.study.centralizing import centralized
from regrow_host.study.experiment import Figure, Outcome, Outcomes, Table
from regrow_host.study.lab import Lab, Result, Settings, trial
from regrow_host.study.models import SPECS
from regrow_host.study.ranks import spearman
from regrow_host.study.subject import Subject

TITLE = "Centralization"
QUESTION = (
    "How much accuracy is left when a mean and a standard deviation stand for all weights of a network, of "
    "a layer, or of a batch of weights?"
)
METHOD = (
    "Weights are grown by regrow's codec `central`, bit for bit as devices grow them: restored as "
    "`uniform`, drawn between mean - deviation and mean + deviation with a bias that keeps a layer's mean, "
    "or as `mean`, the mean itself. Layer-wise: one layer at a time, then all. Batch-wise: batches of "
    "consecutive weights in the dense layers alone (as the report), in the convolutions alone and in all "
    "layers. Memory saved is the float32 weights less the bytes of the parts: 4 bytes a batch (uniform) or "
    "2 (mean) and some 40 of header."
)

REPEATS = 3
REPORTED = tuple(
    sorted({s.reported.batch_size for s in SPECS.values() if s.reported and s.reported.batch_size})
)
"""The report's batch sizes, which are tried beside the powers of two."""
COLOURS = {
    ("dense", "uniform"): plots.BLUE,
    ("dense", "mean"): plots.GREEN,
    ("conv", "uniform"): plots.VIOLET,
    ("conv", "mean"): "#b79fd0",
    ("all", "uniform"): plots.ORANGE,
    ("all", "mean"): plots.RED,
}
NAMES = {"dense": "dense layers", "conv": "convolutions", "all": "all layers"}


@trial(centralizing, central)
def measure(subject: Subject, settings: Settings) -> Result:
    """Centralize the layers of the numbers `layers`: `unit`, `restore`, `size` and `seed`."""
    chosen = [subject.layers[number] for number in settings["layers"]]
    whole: tuple[float, float] | tuple[None, None] = None, None
    if settings["unit"] == "unitary":
        every = np.concatenate([layer.values.ravel() for layer in chosen]).astype(np.float64)
        whole = float(every.mean()), float(every.std())
    size, seed, weights = 0, settings["seed"], {}
    for layer in chosen:
        weights[layer.number], part = centralized(
            layer.values, settings["unit"], settings["restore"], settings["size"], seed, whole=whole
        )
        size += part
    return subject.accuracy(weights) | {
        "bytes": size,
        "saved": 4 * sum(layer.count for layer in chosen) - size,
    }


def batches(numbers: Sequence[int], restore: str, size: int, seed: int) -> Settings:
    return {"layers": list(numbers), "unit": "batch", "restore": restore, "size": size, "seed": seed}


def sizes(largest: int) -> list[int]:
    """Powers of two, the report's sizes, and the whole of the largest layer."""
    powers = [1 << power for power in range(largest.bit_length())]
    return sorted({*powers, *(size for size in REPORTED if size < largest), largest})


def run(lab: Lab, subject: Subject) -> Outcome:
    every = [layer.number for layer in subject.layers]

    def units(unit: str, layers: Sequence[int], repeats: int) -> Iterator[Settings]:
        fixed = {"layers": list(layers), "unit": unit, "size": None}
        yield {**fixed, "restore": "mean", "seed": lab.seed}
        for repeat in range(repeats):
            yield {**fixed, "restore": "uniform", "seed": lab.seed + repeat}

    settings = [each for number in every for each in units("layer", [number], REPEATS)]
    settings += [each for unit in ("unitary", "layer") for each in units(unit, every, 1)]
    results = lab.map("centralizing layers", measure, subject, settings)
    accuracy = [result["accuracy"] for result in results]
    alone = np.array(accuracy[: len(every) * (REPEATS + 1)]).reshape(len(every), -1)
    whole = accuracy[-4:]
    (original,) = lab.map("measuring", measure, subject, [batches([], "mean", 1, 0)])
    bypassed = paths.bypassed(subject.model)
    return {
        "original": original["accuracy"],
        "chance": subject.chance,
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "count": layer.count,
                "bypassed": layer.operator in bypassed,
                "mean": float(row[0]),
                "uniform": float(row[1:].mean()),
                "spread": float(row[1:].std()),
                "near_zero": _near_zero(layer.values),
            }
            for layer, row in zip(subject.layers, alone, strict=True)
        ],
        "unitary": {"mean": whole[0], "uniform": whole[1]},
        "all layers": {"mean": whole[2], "uniform": whole[3]},
        "batches": {
            which: {restore: _sweep(lab, subject, which, restore) for restore in centralizing.RESTORATIONS}
            for which in subject.selections
        },
    }


def _near_zero(values: centralizing.Floats) -> float:
    """The share of weights below a hundredth of the largest."""
    return float((np.abs(values) < 0.01 * np.abs(values).max()).mean())


def _sweep(lab: Lab, subject: Subject, which: str, restore: str) -> list[Result]:
    """Per batch size the accuracy: of uniform restoration in the first kind of layers over several seeds."""
    layers = subject.select(which)
    numbers = [layer.number for layer in layers]
    tried = sizes(max(layer.count for layer in layers))
    repeats = REPEATS if restore == "uniform" and which == subject.selections[0] else 1
    settings = [batches(numbers, restore, size, lab.seed + i) for size in tried for i in range(repeats)]
    results = lab.map(f"centralizing batches, {which}, {restore}", measure, subject, settings)
    points = []
    for place, size in enumerate(tried):
        same = results[place * repeats : (place + 1) * repeats]
        accuracy = [each["accuracy"] for each in same]
        points.append(
            {
                "size": size,
                "accuracy": float(np.mean(accuracy)),
                "spread": float(np.std(accuracy)),
                "saved": same[0]["saved"],
            }
        )
    return points


def figures(outcomes: Outcomes) -> list[Figure]:
    models = list(outcomes)

    def layers(axes: Axes, model: str) -> None:
        outcome = outcomes[model]
        axes.axhline(outcome["original"], color=plots.INK, linewidth=0.8, label="original")
        axes.axhline(outcome["chance"], color=plots.PALE, linestyle="--", label="the same answer for all")
        places = range(len(outcome["layers"]))
        mean = [each["mean"] for each in outcome["layers"]]
        uniform = [each["uniform"] for each in outcome["layers"]]
        spread = [each["spread"] for each in outcome["layers"]]
        axes.errorbar(places, uniform, spread, fmt="o-", color=plots.BLUE, elinewidth=0.8, label="uniform")
        axes.plot(places, mean, "s-", color=plots.GREEN, label="mean")
        around = [(i, each["uniform"]) for i, each in enumerate(outcome["layers"]) if each["bypassed"]]
        if around:
            axes.plot(
                *zip(*around, strict=True), "o", mfc="white", color=plots.BLUE, markersize=3.4, zorder=5
            )
        _percent(axes)
        plots.whole(axes)
        axes.set_xlabel("layer")

    def accuracy(axes: Axes, model: str) -> None:
        axes.axhline(outcomes[model]["original"], color=plots.INK, linewidth=0.8)
        for (which, restore), points in _curves(outcomes[model]):
            size, middle, spread, _ = points
            axes.plot(size, middle, "o-", color=COLOURS[which, restore], label=f"{NAMES[which]}, {restore}")
            axes.fill_between(
                size, middle - spread, middle + spread, color=COLOURS[which, restore], alpha=0.2
            )
        plots.logarithmic(axes)
        _percent(axes)
        axes.set_xlabel("batch size")

    def saved(axes: Axes, model: str) -> None:
        for (which, restore), (size, _, _, kilobytes) in _curves(outcomes[model]):
            style = "-" if restore == "uniform" else ":"
            axes.plot(
                size, kilobytes, style, color=COLOURS[which, "uniform"], label=f"{NAMES[which]}, {restore}"
            )
        plots.logarithmic(axes)
        axes.set(xlabel="batch size", ylabel="saved, KB")

    def against(axes: Axes, model: str) -> None:
        for (which, restore), (_, middle, _, kilobytes) in _curves(outcomes[model]):
            drop = outcomes[model]["original"] - middle
            axes.plot(
                kilobytes, drop, "o-", color=COLOURS[which, restore], label=f"{NAMES[which]}, {restore}"
            )
        axes.axvline(0, color=plots.INK, linewidth=0.6)
        axes.set(xlabel="saved, KB", ylabel="points lost")

    fullest = sorted(models, key=lambda model: -len(outcomes[model]["batches"]))
    return [
        plots.grid(
            "centralization-layers",
            "Accuracy with one layer centralized, uniform (mean and spread of three seeds) and mean. White "
            "dots: layers that a path leads around (a skip or a parallel branch).",
            models,
            layers,
        ),
        plots.grid(
            "centralization-accuracy",
            "Accuracy against batch size; shaded: spread over seeds of the generator.",
            fullest,
            accuracy,
        ),
        plots.grid(
            "centralization-saved", "Memory saved against batch size (KB of 1,000 bytes).", fullest, saved
        ),
        plots.grid("centralization-drop", "Accuracy lost against memory saved.", fullest, against),
    ]


def _percent(axes: Axes) -> None:
    axes.set_ylim(0, 103)
    axes.set_ylabel("accuracy, %")


def _curves(outcome: Outcome) -> Iterator[tuple[tuple[str, str], list[NDArray[np.float64]]]]:
    """Per layers and restoration: batch sizes, accuracy, its spread, KB saved."""
    for which, restorations in outcome["batches"].items():
        for restore, points in restorations.items():
            columns = [
                np.array([point[key] for point in points]) for key in ("size", "accuracy", "spread", "saved")
            ]
            columns[3] = columns[3] / 1000
            yield (which, restore), columns


def tables(outcomes: Outcomes) -> list[Table]:
    rows, why = [], []
    for model, outcome in outcomes.items():
        alone = [each["uniform"] for each in outcome["layers"]]
        worst, last = int(np.argmin(alone)), alone[-1]
        rows.append(
            [
                plots.title(model),
                f"{outcome['original']:.2f}",
                *(f"{outcome['unitary'][restore]:.2f}" for restore in ("uniform", "mean")),
                *(f"{outcome['all layers'][restore]:.2f}" for restore in ("uniform", "mean")),
                f"{alone[worst]:.2f} (#{worst})",
                f"{last:.2f}",
                f"{max(alone):.2f}",
                f"{outcome['chance']:.2f}",
            ]
        )
    columns = (
        "model",
        "original",
        "whole network, uniform",
        "mean",
        "all layers, uniform",
        "mean",
        "worst layer alone",
        "last layer alone",
        "best layer alone",
        "same answer for all",
    )
    for name, harm, count in _traits(outcomes):
        why.append([name, f"{harm:+.2f}", count])
    return [
        Table("Accuracy, in percent, with unitary and layer-wise centralization.", columns, rows),
        Table(
            "What goes with the harm of centralizing one layer (share of what the model knows that is lost, "
            "uniform): rank correlation over the layers of all models.",
            ("trait of the layer", "correlation with harm", "layers"),
            why,
        ),
    ]


def _traits(outcomes: Outcomes) -> list[tuple[str, float, int]]:
    harm, traits = [], []
    for outcome in outcomes.values():
        whole = sum(each["count"] for each in outcome["layers"])
        last = max(len(outcome["layers"]) - 1, 1)
        for place, each in enumerate(outcome["layers"]):
            harm.append(_harm(outcome, each["uniform"]))
            traits.append(
                (each["bypassed"], each["count"] / whole, each["count"], place / last, each["near_zero"])
            )
    names = (
        "a path leads around it",
        "its share of the network's weights",
        "its weights",
        "its depth, 0 first to 1 last",
        "its share of weights near zero",
    )
    return [
        (name, spearman([float(each[i]) for each in traits], harm), len(harm)) for i, name in enumerate(names)
    ]


def _harm(outcome: Outcome, accuracy: float) -> float:
    known = max(outcome["original"] - outcome["chance"], 1e-9)
    return min(float((outcome["original"] - accuracy) / known), 1.0)


def finding(outcomes: Outcomes) -> str:
    collapsed = [
        model
        for model, outcome in outcomes.items()
        if _harm(outcome, outcome["all layers"]["uniform"]) > 0.8
        and _harm(outcome, outcome["unitary"]["uniform"]) > 0.8
    ]
    layers = [(outcome, each) for outcome in outcomes.values() for each in outcome["layers"]]
    around = [_harm(outcome, each["uniform"]) for outcome, each in layers if each["bypassed"]]
    through = [_harm(outcome, each["uniform"]) for outcome, each in layers if not each["bypassed"]]
    text = (
        f"With every layer centralized as a whole, {len(collapsed)} of {len(outcomes)} models answer "
        "(nearly) the same for every sample, and what accuracy is left is the share of the most frequent "
        "class. "
    )
    if around and through:
        text += (
            f"One layer alone costs {round(100 * float(np.median(through)))} % of what the model knows "
            f"(median) where all signals pass through it and {round(100 * float(np.median(around)))} % where "
            "a skip or a branch leads around it: surplus, not the statistics, carries such networks. "
        )
    halves = [
        points[1]["accuracy"] - points[0]["accuracy"]
        for outcome in outcomes.values()
        for restore, points in outcome["batches"][list(outcome["batches"])[-1]].items()
        if restore == "uniform" and len(points) > 1
    ]
    return text + (
        f"Batches of 2 over all layers already cost {-float(np.mean(halves)):.0f} points on average "
        "(uniform), before anything but half of the bytes is saved: neighbouring weights of a trained layer "
        "have nothing in common that a mean could keep."
    )
