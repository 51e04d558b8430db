"""How the study's figures look: one style, one grid of panels, a panel a model."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator
from PIL import Image

from regrow_host.study.experiment import Figure
from regrow_host.study.models import SPECS

INK, PALE = "#23303d", "#c9d1d9"
BLUE, ORANGE, GREEN, RED, VIOLET = "#2a6fbb", "#d9822b", "#3a8f5c", "#c23b3b", "#7d5ba6"
SERIES = BLUE, ORANGE, GREEN, VIOLET, RED

STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
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
LEGEND_COLUMNS = 5


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

    width = PANEL[0] * COLUMNS
    return Figure(name, caption, (width, PANEL[1] * rows + 0.5), draw)


def whole(axes: Axes) -> None:
    """Ticks of whole numbers along x."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def logarithmic(axes: Axes, base: int = 10) -> None:
    """Along x, with ticks at powers alone."""
    axes.set_xscale("log", base=base)
    axes.minorticks_off()


def legend(canvas: Canvas, axes: Axes) -> None:
    """The entries of one panel above the whole figure, row by row."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    rows = -(-len(labels) // LEGEND_COLUMNS)
    columns = -(-len(labels) // rows)
    # A legend is filled column by column.
    order = sorted(range(len(labels)), key=lambda i: (i % columns, i))
    handles, labels = [handles[i] for i in order], [labels[i] for i in order]
    canvas.legend(handles, labels, loc="outside upper left", ncols=columns)


def render(figure: Figure, kind: str) -> bytes:
    """The bytes of an svg or png file; the same figure gives the same bytes."""
    style: Any = STYLE | {"svg.hashsalt": figure.name}
    target = io.BytesIO()
    with mpl.rc_context(style):
        canvas = Canvas(figsize=figure.size, layout="constrained")
        figure.draw(canvas)
        metadata = {"Date": None, "Creator": "regrow study"} if kind == "svg" else {"Software": None}
        canvas.savefig(target, format=kind, dpi=100, metadata=metadata)
    return _slim(target.getvalue().decode(), figure.name) if kind == "svg" else _few_colours(target)


def _slim(svg: str, name: str) -> bytes:
    """The same drawing to a tenth of a point, in a quarter of the bytes; its styles are named after it."""
    # Not in what is written on it, which stands between tags.
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(?<!version=\")-?\d+\.\d+", _tenths, tag[0]), svg)
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"\s*([MLQCz])\s*", r"\1", path[0]), svg)
    svg = re.sub(r' transform="rotate\(-?0 [^"]*\)"', "", svg)
    svg = re.sub(r'<g id="[a-z0-9]+_\d+">', "<g>", svg)
    svg = re.sub(r">\s+<", "><", re.sub(r"\s*\n\s*", " ", svg))
    svg = re.sub(r"<g>(<use [^>]*/>)</g>", r"\1", svg).replace('xlink:href="#', 'href="#')
    # Points that fell together.
    svg = re.sub(r"(<use [^>]*/>)\1+", r"\1", re.sub(r"(L[-\d. ]+)\1+(?=[\"L])", r"\1", svg))
    short = f"f{crc32(name.encode()) % 0xFFFF:x}-"
    styles: dict[str, str] = {}

    def shared(style: re.Match[str]) -> str:
        return f' class="{styles.setdefault(style[1], f"{short}{len(styles)}")}"'

    svg = re.sub(r' style="([^"]*)"', shared, svg)
    rules = "".join(f".{each}{{{style}}}" for style, each in styles.items())
    return svg.replace("</style>", f"{rules}</style>", 1).encode()


def _tenths(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}".removesuffix(".0")


def _few_colours(png: io.BytesIO) -> bytes:
    target = io.BytesIO()
    Image.open(png).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(target, "png", optimize=True)
    return target.getvalue()
