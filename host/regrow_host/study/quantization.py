"""8-bit weights: one layer at a time, and the whole network."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from regrow_host.study import plots
from regrow_host.study.experiment import Figure, Outcome, Outcomes, Table
from regrow_host.study.lab import Lab, Result, Settings, trial
from regrow_host.study.subject import Subject
from regrow_host.tflite import WeightTensor

TITLE = "8-bit weights"
QUESTION = "What does it cost to round weights to 8 bits, layer by layer and all at once?"
METHOD = (
    "Weights are rounded to 255 levels between minus and plus their largest magnitude, with one scale for a "
    "tensor or one for each of its output channels; activations stay float32. First one layer alone, with "
    "one scale; then the whole network in both ways."
)
TICKS = -10, -1, -0.5, 0, 0.5, 1, 2, 5, 10, 20, 50, 100
TENSOR, CHANNEL = "one scale a tensor", "one scale a channel"

Floats = NDArray[np.float32]


def rounded(layer: WeightTensor, scales: str) -> Floats:
    """The weights at 8 bits."""
    values = layer.values.reshape(-1, layer.channels, layer.inner)
    peaks = np.abs(values).max(axis=(0, 2) if scales == CHANNEL else None, keepdims=True)
    steps = np.where(peaks > 0, peaks, 1) / 127
    return np.asarray((np.rint(values / steps) * steps).reshape(layer.shape), np.float32)


@trial(rounded)
def measure(subject: Subject, settings: Settings) -> Result:
    chosen = [subject.layers[number] for number in settings["layers"]]
    return subject.accuracy({layer.number: rounded(layer, settings["scales"]) for layer in chosen})


def run(lab: Lab, subject: Subject) -> Outcome:
    numbers = [layer.number for layer in subject.layers]
    settings: list[Settings] = [{"layers": [number], "scales": TENSOR} for number in numbers]
    settings += [{"layers": numbers, "scales": scales} for scales in (TENSOR, CHANNEL)]
    settings.append({"layers": [], "scales": TENSOR})
    *alone, tensor, channel, original = lab.map("rounding to 8 bits", measure, subject, settings)
    return {
        "original": original["accuracy"],
        "layers": [each["accuracy"] for each in alone],
        TENSOR: tensor["accuracy"],
        CHANNEL: channel["accuracy"],
    }


def figures(outcomes: Outcomes) -> list[Figure]:
    def draw(canvas: Canvas) -> None:
        axes: Axes = canvas.subplots()
        for row, outcome in enumerate(outcomes.values()):
            alone = outcome["original"] - np.array(outcome["layers"])
            first = row == 0
            spread = row + np.linspace(-0.22, 0.22, len(alone))
            axes.plot(alone, spread, "o", color=plots.PALE, label="one layer alone" if first else None)
            for scales, mark, colour in ((TENSOR, "s", plots.ORANGE), (CHANNEL, "D", plots.BLUE)):
                lost = outcome["original"] - outcome[scales]
                axes.plot(
                    lost, row, mark, color=colour, markersize=5, label=f"all, {scales}" if first else None
                )
        axes.set_yticks(range(len(outcomes)), [plots.title(model) for model in outcomes])
        axes.invert_yaxis()
        axes.axvline(0, color=plots.INK, linewidth=0.6)
        axes.set_xscale("symlog", linthresh=1)
        low, high = axes.get_xlim()
        axes.set_xlim(min(low, -1), max(high, 1.5))
        axes.set_xticks([tick for tick in TICKS if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]])
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("points lost (linear between -1 and 1, then logarithmic)")
        plots.legend(canvas, axes)

    caption = "Points that 8-bit weights cost."
    return [Figure("quantization", caption, (8.2, 0.34 * len(outcomes) + 1.1), draw)]


def tables(outcomes: Outcomes) -> list[Table]:
    rows = []
    for model, outcome in outcomes.items():
        lost = [outcome["original"] - accuracy for accuracy in outcome["layers"]]
        whole = [outcome["original"] - outcome[scales] for scales in (TENSOR, CHANNEL)]
        rows.append(
            [plots.title(model), f"{outcome['original']:.2f}", f"{max(lost):+.2f} (#{int(np.argmax(lost))})"]
            + [f"{each:+.2f}" for each in whole]
        )
    columns = ("model", "float32, %", "worst layer alone", f"all, {TENSOR}", f"all, {CHANNEL}")
    return [Table("Points lost by 8-bit weights.", columns, rows)]


def finding(outcomes: Outcomes) -> str:
    lost = {model: each["original"] - each[CHANNEL] for model, each in outcomes.items()}
    worst = max(lost, key=lambda model: lost[model])
    tensor = {model: each["original"] - each[TENSOR] for model, each in outcomes.items()}
    hard = max(tensor, key=lambda model: tensor[model])
    return (
        f"A quarter of the bytes costs {np.mean(list(lost.values())):.2f} points on average and "
        f"{lost[worst]:.2f} at most ({plots.title(worst)}) with a scale for each channel; with one scale for "
        f"a tensor up to {tensor[hard]:.2f} ({plots.title(hard)})."
    )
