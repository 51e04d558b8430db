"""What a person sees: warnings and progress on stderr, tables or JSON on stdout."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

Item = TypeVar("Item")

WIDTH = 120
"""Columns of a table where stdout is no terminal."""
TEXT_WIDTH = 40


def _stderr() -> Console:
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)


def warn(sentence: str) -> None:
    _stderr().print(f"regrow: warning: {sentence}", markup=False, style="yellow")


def note(sentence: str) -> None:
    _stderr().print(f"regrow: {sentence}", markup=False, style="dim")


def progress() -> Progress:
    """A progress bar on stderr; where stderr is no terminal it stays silent."""
    console = _stderr()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    with progress() as bar:
        yield from bar.track(items, total=total, description=description)


def show_json(result: dict[str, Any]) -> None:
    print(json.dumps(rounded(result), indent=2))


def rounded(value: Any) -> Any:
    """Floats anywhere in `value` with 6 digits; what a difference leaves below 1e-12 is no figure."""
    if isinstance(value, float):
        return round(float(f"{value:.6g}"), 12) + 0.0
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value


def show_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Prints a table on stdout, columns of figures aligned to the right."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    lines = [[str(cell) for cell in row] for row in rows]
    for number, column in enumerate(columns):
        figures = all(_is_figure(line[number]) for line in lines)
        table.add_column(
            column,
            justify="right" if figures else "left",
            no_wrap=True,
            overflow="ellipsis",
            max_width=None if figures else TEXT_WIDTH,
        )
    for line in lines:
        table.add_row(*line)
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else WIDTH).print(table)


def _is_figure(cell: str) -> bool:
    return not cell or cell[0].isdigit() or cell[0] in "-+"


def show_comparisons(comparisons: Mapping[str, Mapping[str, Any]], samples: str) -> None:
    """A table of what each runtime loses (metrics.Comparison as dicts)."""
    rows = []
    for name, each in comparisons.items():
        figures = [f"{each['source']:.4f}", f"{each['pack']:.4f}", f"{each['drop']:+.2f}"]
        rows.append(
            [name, each["metric"], each["samples"], *figures, f"{each['low']:+.2f} to {each['high']:+.2f}"]
        )
    columns = ("runtime", "metric", samples, "source", "pack", "drop, points", "95 % interval")
    show_table("accuracy", columns, rows)


def show(line: str) -> None:
    print(line)
