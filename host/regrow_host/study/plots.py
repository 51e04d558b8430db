"""How the study's figures look: one style, one grid of panels, a panel a model."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from regrow_host.study.experiment import Figure
from regrow_host.study.models import SPECS

INK, PALE = "#23303d", "#c9d1d9"
BLUE, ORANGE, GREEN, RED, VIOLET = "#2a6fbb", "#d9822b", "#3a8f5c", "#c23b3b", "#7d5ba6"
SERIES = BLUE, ORANGE, GREEN, VIOLET, RED

STYLE = {
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.edgecolor": "#8a949e",
    "axes.labelcolor": INK,
    "axes.titlesize": 8.5,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6eaee",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 3,
    "xtick.color": "#55606b",
    "ytick.color": "#55606b",
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "figure.dpi": 100,
}
PANEL = 2.75, 1.95
COLUMNS = 3


def title(name: str) -> str:
    """Of a model; the name itself for one that is not the study's."""
    return SPECS[name].title.replace(" (MLPerf Tiny)", "") if name in SPECS else name


def grid(
    name: str, caption: str, models: Sequence[str], panel: Callable[[Axes, str], None], columns: int = COLUMNS
) -> Figure:
    """A figure with a panel for each model; the legend of the first panel stands above all."""
    columns = min(columns, len(models))
    rows = -(-len(models) // columns)

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots(rows, columns, squeeze=False).ravel()
        for each in axes[len(models) :]:
            each.set_axis_off()
        for each, model in zip(axes, models, strict=False):
            each.set_title(title(model))
            panel(each, model)
        legend(canvas, axes[0])

    width = max(PANEL[0] * columns, 6.0)
    return Figure(name, caption, (width, PANEL[1] * rows + 0.5), draw)


def whole(axes: Axes) -> None:
    """Ticks of whole numbers along x."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def legend(canvas: Canvas, axes: Axes) -> None:
    """The entries of one panel as a row above the whole figure."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        canvas.legend(handles, labels, loc="outside upper left", ncols=min(len(labels), 5))


def render(figure: Figure, kind: str) -> bytes:
    """The bytes of an svg or png file; the same figure gives the same bytes."""
    style: Any = STYLE | {"svg.hashsalt": figure.name}
    with mpl.rc_context(style):
        canvas = Canvas(figsize=figure.size, layout="constrained")
        figure.draw(canvas)
        target = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        canvas.savefig(target, format=kind, dpi=130, metadata=metadata)
    return target.getvalue()
