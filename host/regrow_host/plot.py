"""Plots for people who would rather look: bytes against accuracy."""

from collections.abc import Sequence
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib as mpl
from regrow.errors import InputError

from regrow_host import files

mpl.use("Agg")

from matplotlib import pyplot as plt

Result = dict[str, Any]

COLOURS = {
    "source": "black",
    "int8 .tflite": "C1",
    "ai-edge-quantizer, int8 weights": "C2",
    "ai-edge-quantizer, int4 weights": "C3",
    "regrow auto": "C0",
    "central, uniform": "C4",
    "central, mean": "C6",
    "nncodec": "C7",
    "nncodec, regrow's steps and biases": "C8",
}
KINDS = ".svg", ".png", ".pdf"
MOST_DROP = 10.0
"""Points below the source beyond which nobody would use a network."""


def check(path: Path) -> None:
    """Raises InputError unless a plot can be written there."""
    if path.suffix not in KINDS:
        raise InputError(f"the plot {path} must end in {', '.join(KINDS)}")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} for the plot does not exist")


def rate_accuracy(path: Path, results: Sequence[tuple[str, Result]]) -> None:
    """Per (title, what `regrow compare --json` prints) a panel with a curve per method.

    Raises InputError if the file cannot be written.
    """
    across = min(len(results), 2)
    down = -(-len(results) // across)
    figure, grid = plt.subplots(
        down, across, figsize=(7 * across, 4.5 * down), layout="constrained", squeeze=False
    )
    for axes, (title, result) in zip(grid.flat, results, strict=False):
        _draw(axes, result)
        axes.set_title(f"{title}, {result['samples']} held-out samples")
    blob = BytesIO()
    figure.savefig(blob, format=path.suffix[1:], dpi=150)
    plt.close(figure)
    files.write(path, [blob.getvalue()])


def _draw(axes: Any, result: Result) -> None:
    """The curves; a method of one point is a mark, hollow where it is another one behind a compressor."""
    for method, group in groupby(result["points"], lambda each: str(each["method"])):
        points = sorted((each["bytes"], each["drop"]) for each in group)
        base = method.partition(", zstd")[0]
        colour = COLOURS[base]
        face = colour if base == method else "none"
        axes.plot(*zip(*points, strict=True), "o-", color=colour, mfc=face, markersize=4, label=method)
    shown = [each["bytes"] for each in result["points"] if each["drop"] <= MOST_DROP]
    axes.set_xscale("log")
    axes.set_xlim(min(shown) / 1.3, max(shown) * 1.3)
    axes.set_ylim(MOST_DROP, -MOST_DROP / 4)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_xlabel("bytes of the weights")
    axes.set_ylabel(f"loss of {result['metric']}, points")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="x-small", loc="lower right")
