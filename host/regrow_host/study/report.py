"""The report of a study: results.json, the figures, and one page that needs nothing else."""

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import regrow
from regrow.errors import InputError

from regrow_host import console, files
from regrow_host.study import comparison, plots
from regrow_host.study.experiment import Experiment, Figure, Outcomes, Table
from regrow_host.study.subject import Subject

PAGE = "report.html"
RESULTS = "results.json"
FIGURES = "figures"
KINDS = "svg", "png"

FIGURE = re.compile(r"[+-]?[\d,.]+(e[+-]\d+)?( \([^)]*\)| / [\d.]+)?$")
NOTHING = re.compile(r"^[+-](?=0(\.0+)?$)")
"""The sign of a number that is shown as 0."""
STYLE = Path(__file__).with_name("report.css")
HEADING = "Weight centralization: a study"
INTRODUCTION = (
    "Weight centralization lets a mean and a standard deviation stand for many weights of a trained "
    "network: a device grows the weights back from a generator of random numbers. regrow grew from a report "
    "on it. This page is the output of <code>regrow study</code>: the report's experiments run again, what "
    "came out, what the report cannot be right about, what helps, and regrow's codecs beside it. Every "
    "figure is measured on samples that took no part in training; where something is searched for, other "
    "samples judge than those that the search saw."
)


def make_folder(folder: Path) -> None:
    """Raises InputError if the report cannot be written there."""
    try:
        (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder / FIGURES}: {error.strerror}") from None


def write(
    folder: Path,
    experiments: Mapping[str, Experiment],
    outcomes: Mapping[str, Outcomes],
    studied: Sequence[Subject],
    seed: int,
) -> dict[str, Any]:
    """Writes all files of the report; returns what results.json holds. Raises InputError."""
    results: dict[str, Any] = {
        "regrow": regrow.__version__,
        "seed": seed,
        "models": {each.name: _model(each) for each in studied},
        "experiments": {},
    }
    sections = [_models(studied)]
    for name, experiment in experiments.items():
        found = outcomes[name]
        finding = experiment.finding(found) if found else "No model fits this experiment."
        results["experiments"][name] = {"finding": finding, "outcomes": found}
        figures = experiment.figures(found) if found else []
        drawn = [(figure, _draw(folder, figure)) for figure in figures]
        tables = experiment.tables(found) if found else []
        sections.append(_section(name, experiment, finding, drawn, tables))
    if "threshold" in experiments and outcomes["threshold"]:
        sections.append(_comparison(outcomes))
    titles = {name: each.TITLE for name, each in experiments.items()}
    files.write(folder / PAGE, [_page(titles, sections, seed).encode()])
    results = console.rounded(results)
    files.write(folder / RESULTS, [json.dumps(results, separators=(",", ":")).encode(), b"\n"])
    return results


def _model(subject: Subject) -> dict[str, Any]:
    return {
        "title": plots.title(subject.name),
        "metric": subject.metric,
        "data": subject.source,
        "samples that search": len(subject.searching.samples),
        "samples that judge": len(subject.held_out.samples),
        "layers": len(subject.layers),
        "weights": sum(layer.count for layer in subject.layers),
        "weights in dense layers": sum(layer.count for layer in subject.select("dense")),
        "chance": subject.chance,
    }


def _models(studied: Sequence[Subject]) -> str:
    rows = [list(_model(each).values()) for each in studied]
    columns = list(_model(studied[0]))
    columns[0] = "model"
    caption = "The models. `chance` is the accuracy (AUC x 100) of the same answer for every sample."
    return _table(Table(caption, columns, [[_cell(each) for each in row] for row in rows]))


def _cell(value: object) -> str:
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:.2f}" if isinstance(value, float) else str(value)
    )


def _draw(folder: Path, figure: Figure) -> str:
    """Writes the figure in all kinds; returns the svg element."""
    blobs = {kind: plots.render(figure, kind) for kind in KINDS}
    for kind, blob in blobs.items():
        files.write(folder / FIGURES / f"{figure.name}.{kind}", [blob])
    text = blobs["svg"].decode()
    return text[text.index("<svg") :]


def _section(
    name: str,
    experiment: Experiment,
    finding: str,
    drawn: Sequence[tuple[Figure, str]],
    tables: Sequence[Table],
) -> str:
    parts = [
        f'<h2 id="{name}">{_text(experiment.TITLE)}</h2>',
        f'<p class="question">{_text(experiment.QUESTION)}</p>',
        f"<p><b>Method.</b> {_text(experiment.METHOD)}</p>",
        f'<p class="finding">{_text(finding)}</p>',
    ]
    parts += [
        f"<figure>{svg}<figcaption>{_text(figure.caption)}</figcaption></figure>" for figure, svg in drawn
    ]
    return "\n".join([*parts, *map(_table, tables)])


def _comparison(outcomes: Mapping[str, Outcomes]) -> str:
    parts = [f'<h2 id="comparison">{comparison.TITLE}</h2>', f"<p>{_text(comparison.METHOD)}</p>"]
    return "\n".join([*parts, *map(_table, comparison.tables(outcomes))])


def _table(table: Table) -> str:
    cells = [[NOTHING.sub("", str(cell)) for cell in row] for row in table.rows]
    columns = zip(*cells, strict=True) if cells else [()] * len(table.columns)
    kinds = [' class="number"' if _numeric(column) else "" for column in columns]
    head = _row("th", kinds, map(str, table.columns))
    body = "\n".join(_row("td", kinds, row) for row in cells)
    caption = f"<caption>{_text(table.caption)}</caption>"
    return f'<div class="table"><table>{caption}<thead>{head}</thead><tbody>\n{body}\n</tbody></table></div>'


def _row(tag: str, kinds: Sequence[str], cells: Iterable[str]) -> str:
    pairs = zip(kinds, cells, strict=True)
    return "<tr>" + "".join(f"<{tag}{kind}>{_text(cell)}</{tag}>" for kind, cell in pairs) + "</tr>"


def _numeric(column: Sequence[str]) -> bool:
    """Whether most of the cells that say anything are numbers, which stand to the right."""
    told = [cell for cell in column if cell]
    return 2 * sum(bool(FIGURE.match(cell)) for cell in told) > len(told)


def _text(text: str) -> str:
    """Escaped, with what stands between backticks as code."""
    pieces = html.escape(text, quote=False).split("`")
    return "".join(f"<code>{piece}</code>" if i % 2 else piece for i, piece in enumerate(pieces))


def _page(titles: Mapping[str, str], sections: Sequence[str], seed: int) -> str:
    links = [*titles.items()]
    if len(sections) > len(titles) + 1:
        links.append(("comparison", comparison.TITLE))
    contents = "".join(f'<li><a href="#{name}">{_text(title)}</a></li>' for name, title in links)
    made = (
        f"<p>regrow {regrow.__version__}, seed {seed}; the numbers stand in <code>{RESULTS}</code>. With the "
        "same seed, models and data another run gives the same ones; only what is timed (time saved, energy) "
        "differs from run to run.</p>"
    )
    head = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{HEADING}</title>\n<style>\n{STYLE.read_text('utf-8')}</style></head><body>"
    )
    top = f"<h1>{HEADING}</h1><p>{INTRODUCTION}</p>{made}<nav><ol>{contents}</ol></nav>"
    return "\n".join([head, top, *sections, "</body></html>\n"])
