"""Weight augmentation: what a layer's weights bear when all of them are moved, scaled or hit by bit flips."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from regrow_host.study import plots
from regrow_host.study.experiment import Figure, Outcome, Outcomes, Table
from regrow_host.study.lab import Lab, Result, Settings, trial
from regrow_host.study.ranks import partial_spearman, spearman
from regrow_host.study.subject import Subject
from regrow_host.tflite import WeightTensor

MOST_LAYERS = 20
"""Of a deeper network so many are taken, evenly spaced."""

TITLE = "Weight augmentation"
QUESTION = "Are early layers sensitive to changed weights and late ones hardly, as the report claims?"
METHOD = (
    "One layer at a time, a scalar is added to all of its weights or multiplied with them, or one random "
    "bit of every float32 weight is flipped (three times, with other bits). As a large layer has more "
    "weights to hit, bits are also flipped in the same number of weights in every layer: as many as the "
    "smallest layer has. A layer's sensitivity is the mean number of points lost. Its rank correlation "
    "(Spearman) with the layer's depth says whether early layers are the sensitive ones (negative); the "
    f"partial correlation takes out what layers' sizes explain. Of networks with more layers {MOST_LAYERS} "
    "are taken, evenly spaced."
)

SCALARS = 0.25, 0.4, 0.6, 0.85, 0.96, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0
REPEATS = 3
KINDS = {"add": "addition", "multiply": "multiplication", "flip": "bit flips", "few": "flips in equally many"}

Floats = NDArray[np.float32]


def flip(values: Floats, count: int, seed: int) -> Floats:
    """One random bit flipped in each of `count` random weights."""
    random = np.random.default_rng(seed)
    bits = np.ascontiguousarray(values).ravel().view(np.uint32).copy()
    which = random.choice(bits.size, count, replace=False)
    bits[which] ^= np.uint32(1) << random.integers(0, 32, count, np.uint32)
    return np.asarray(bits.view(np.float32).reshape(values.shape))


@trial(flip)
def measure(subject: Subject, settings: Settings) -> Result:
    """`change` add or multiply: `by` the scalar; flip: a bit of `count` weights, drawn by `seed`."""
    layer = subject.layers[settings["layer"]]
    if settings["change"] == "flip":
        values = flip(layer.values, settings["count"], settings["seed"])
    elif settings["change"] == "add":
        values = layer.values + np.float32(settings["by"])
    else:
        values = layer.values * np.float32(settings["by"])
    return subject.accuracy({layer.number: values})


def _spread(layers: Sequence[WeightTensor]) -> list[WeightTensor]:
    places = np.linspace(0, len(layers) - 1, min(len(layers), MOST_LAYERS))
    return [layers[place] for place in np.unique(places.round().astype(int))]


def run(lab: Lab, subject: Subject) -> Outcome:
    layers = _spread(subject.layers)
    least = min(layer.count for layer in layers)
    settings: list[Settings] = []
    for layer in layers:
        settings += [
            {"layer": layer.number, "change": change, "by": by}
            for change in ("add", "multiply")
            for by in SCALARS
        ]
        settings += [
            {"layer": layer.number, "change": "flip", "count": count, "seed": lab.seed + repeat}
            for count in (layer.count, least)
            for repeat in range(REPEATS)
        ]
    results = [result["accuracy"] for result in lab.map("changing weights", measure, subject, settings)]
    each = np.array(results).reshape(len(layers), -1)
    ends = np.cumsum([0, len(SCALARS), len(SCALARS), REPEATS, REPEATS])
    parts = {kind: each[:, ends[i] : ends[i + 1]] for i, kind in enumerate(KINDS)}
    original = parts["multiply"][0, SCALARS.index(1.0)]
    counts = [layer.count for layer in layers]
    lost = {kind: (original - part.mean(axis=1)).tolist() for kind, part in parts.items()}
    depth = list(range(len(counts)))
    return {
        "original": float(original),
        "chance": subject.chance,
        "counts": counts,
        "accuracy": {kind: part.tolist() for kind, part in parts.items()},
        "lost": lost,
        "depth": {kind: spearman(depth, values) for kind, values in lost.items()},
        "depth given size": {kind: partial_spearman(depth, values, counts) for kind, values in lost.items()},
    }


def figures(outcomes: Outcomes) -> list[Figure]:
    return [_scalars(outcomes), _flips(outcomes)]


def _scalars(outcomes: Outcomes) -> Figure:
    """Per model two maps of accuracy, layers from left to right, scalars upward."""
    pairs = 2
    rows = -(-len(outcomes) // pairs)

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots(rows, 2 * pairs, squeeze=False)
        image: Any = None
        for place, each in enumerate(axes.reshape(-1, 2)):
            if place >= len(outcomes):
                for panel in each:
                    panel.set_axis_off()
                continue
            model, outcome = list(outcomes.items())[place]
            titles = f"{plots.title(model)}\nadded", "\nmultiplied"
            for panel, kind, title in zip(each, ("add", "multiply"), titles, strict=True):
                image = _map(panel, np.array(outcome["accuracy"][kind]).T)
                panel.set_title(title)
        canvas.colorbar(image, ax=axes, shrink=0.5, aspect=40, label="accuracy, %")

    caption = (
        "Accuracy after a scalar was added to all weights of one layer or multiplied with them. "
        "Layers stand from left to right in the order of the network, scalars from bottom to top."
    )
    return Figure("augmentation-scalars", caption, (8.2, 1.6 * rows + 0.4), draw)


def _map(panel: Axes, accuracy: NDArray[np.float64]) -> Any:
    panel.grid(visible=False)
    panel.set_yticks(range(0, len(SCALARS), 2), [f"{SCALARS[i]:g}" for i in range(0, len(SCALARS), 2)])
    image = panel.imshow(accuracy, origin="lower", aspect="auto", cmap="viridis", vmin=0, vmax=100)
    plots.whole(panel)
    return image


def _flips(outcomes: Outcomes) -> Figure:
    def panel(axes: Axes, model: str) -> None:
        outcome = outcomes[model]
        axes.axhline(outcome["original"], color=plots.PALE)
        for kind, label, colour in (
            ("flip", "a bit of every weight", plots.ORANGE),
            ("few", "a bit of equally many weights", plots.BLUE),
        ):
            accuracy = np.array(outcome["accuracy"][kind])
            mean, spread = accuracy.mean(axis=1), accuracy.std(axis=1)
            axes.errorbar(range(len(mean)), mean, spread, fmt="o-", color=colour, elinewidth=0.8, label=label)
        axes.set_ylim(0, 103)
        plots.whole(axes)
        axes.set(xlabel="layer", ylabel="accuracy, %")

    caption = (
        "Accuracy after one random bit of float32 weights was flipped in one layer: mean and spread of "
        f"{REPEATS} draws. Orange: in every weight of the layer. Blue: in as many weights as the smallest "
        "layer has."
    )
    return plots.grid("augmentation-flips", caption, list(outcomes), panel)


def tables(outcomes: Outcomes) -> list[Table]:
    columns = ["model", "layers"]
    for name in KINDS.values():
        columns += [name, "given size"]
    rows = []
    for model, outcome in outcomes.items():
        row: list[object] = [plots.title(model), len(outcome["counts"])]
        for kind in KINDS:
            row += [f"{outcome['depth'][kind]:+.2f}", f"{outcome['depth given size'][kind]:+.2f}"]
        rows.append(row)
    caption = (
        "Rank correlation of a layer's sensitivity with its depth; negative: early layers are more sensitive."
    )
    return [Table(caption, columns, rows)]


def finding(outcomes: Outcomes) -> str:
    several = [outcome for outcome in outcomes.values() if len(outcome["counts"]) > 2]
    if not several:
        return "These models have too few layers to tell early ones from late ones."
    early = {kind: _early(several, "depth", kind) for kind in KINDS}
    alike = {kind: _early(several, "depth given size", kind) for kind in KINDS}
    lost = {kind: round(float(np.mean([np.mean(each["lost"][kind]) for each in several]))) for kind in KINDS}
    counts = ", ".join(f"{early[kind]} under {name} ({alike[kind]})" for kind, name in KINDS.items())
    most = 2 * min(early.values()) > len(several)
    last = round(float(np.mean([each["lost"]["add"][-1] for each in several])))
    return (
        f"The claim holds on {'most' if most else 'some'} models. Of {len(several)} early layers are "
        f"clearly more sensitive (correlation below -0.3) on {counts}; in brackets: once sizes are taken "
        f"into account. On average a layer costs {lost['add']} "
        f"points when scalars are added to it ({last} the last one, where that moves all classes alike), "
        f"{lost['multiply']} when it is multiplied, {lost['flip']} when a bit of each of its weights is "
        "flipped: a scalar adds a constant to every sum of a layer, and an exponent's upper bits make "
        "weights huge."
    )


def _early(outcomes: Sequence[Outcome], correlation: str, kind: str) -> int:
    return sum(outcome[correlation][kind] < -0.3 for outcome in outcomes)
