"""What an experiment is: measures, and what the report shows of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from matplotlib.figure import Figure as Canvas
from regrow.errors import RegrowError

from regrow_host.study.lab import Lab
from regrow_host.study.subject import Subject

Outcome = dict[str, Any]
"""What an experiment found on one model, in plain numbers and texts."""
Outcomes = Mapping[str, Outcome]
"""By the models' names."""


class Unfit(RegrowError):  # noqa: N818
    """A model that does not fit an experiment; the others go on."""


@dataclass(frozen=True)
class Figure:
    """`draw` fills a canvas of `size` (width, height) in inches."""

    name: str
    caption: str
    size: tuple[float, float]
    draw: Callable[[Canvas], None]


@dataclass(frozen=True)
class Table:
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


class Experiment(Protocol):
    """A module: three texts and three functions. `finding` says in a sentence or two what came out."""

    TITLE: str
    QUESTION: str
    METHOD: str

    def run(self, lab: Lab, subject: Subject) -> Outcome:
        """Raises Unfit."""
        ...

    def figures(self, outcomes: Outcomes) -> list[Figure]: ...

    def tables(self, outcomes: Outcomes) -> list[Table]: ...

    def finding(self, outcomes: Outcomes) -> str: ...
