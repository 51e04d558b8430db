"""Run trials: each is done once, kept as soon as it is finished, and found again by what it depends on."""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import regrow
from regrow.errors import InputError
from rich.progress import Progress, TaskID

import regrow_host
from regrow_host import files
from regrow_host.executors import Executor
from regrow_host.study.cache import folder

Settings = dict[str, Any]
Result = dict[str, Any]
Measure = Callable[[Any, Settings], Result]


class Value(Protocol):
    """What trials measure; equal digests mean equal values."""

    @property
    def digest(self) -> str: ...


Code = ModuleType | Callable[..., Any]
_USES: dict[Measure, tuple[Code, ...]] = {}


def trial(*uses: Code) -> Callable[[Measure], Measure]:
    """Marks a function (value, settings) -> result of plain numbers and texts as the measure of trials.

    `uses` are the functions, modules or packages whose code the result depends on beside the function's own
    and that of the value's class.
    """

    def mark(measure: Measure) -> Measure:
        _USES[measure] = uses
        return measure

    return mark


@dataclass
class Lab:
    """`done` and `found` count the trials that were measured now and those found in the cache."""

    executor: Executor
    seed: int
    bar: Progress
    done: int = 0
    found: int = 0
    _shared: dict[str, Any] = field(default_factory=dict)

    def map(self, what: str, measure: Measure, value: Value, settings: Sequence[Settings]) -> list[Result]:
        """The results in the order of `settings`; `what` is told beside the progress.

        Raises what `measure` raises, and InputError if a result cannot be kept.
        """
        keys = [_key(measure, value, each) for each in settings]
        results = {key: result for key in dict.fromkeys(keys) if (result := _recall(key)) is not None}
        missing = {key: each for key, each in zip(keys, settings, strict=True) if key not in results}
        self.found += len(results)
        if missing:
            task = self.bar.add_task(what, total=len(missing))
            try:
                self._measure(measure, self._share(value), missing, results, task)
            finally:
                self.bar.remove_task(task)
        return [results[key] for key in keys]

    def _measure(
        self,
        measure: Measure,
        shared: Any,
        missing: Mapping[str, Settings],
        results: dict[str, Result],
        task: TaskID,
    ) -> None:
        for (key, _, _), result in self.executor.run(
            _measured, shared, [(key, measure, each) for key, each in missing.items()]
        ):
            _remember(key, result)
            results[key] = result
            self.done += 1
            self.bar.advance(task)

    def _share(self, value: Value) -> Any:
        if value.digest not in self._shared:
            self._shared[value.digest] = self.executor.share(value)
        return self._shared[value.digest]


def _measured(value: Any, item: tuple[str, Measure, Settings]) -> Result:
    _, measure, settings = item
    return measure(value, settings)


def _key(measure: Measure, value: Value, settings: Settings) -> str:
    """Everything that a result follows from."""
    code = _code(measure, type(value))
    return _digest(json.dumps([code, value.digest, settings], sort_keys=True).encode())


@cache
def _code(measure: Measure, kind: type) -> str:
    sources = [inspect.getsource(measure), inspect.getsource(kind), *map(_source, _USES[measure])]
    return _digest("\n".join(sources).encode())


def _source(code: Code) -> str:
    """Of the packages all but the study, whose measures name what they use."""
    if code not in (regrow, regrow_host):
        return inspect.getsource(code)
    root = Path(str(inspect.getfile(code))).parent
    paths = sorted(path for path in root.rglob("*.py") if "study" not in path.relative_to(root).parts)
    return "\n".join(path.read_text("utf-8") for path in paths)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _path(key: str) -> Path:
    return folder("trials") / f"{key}.json"


def _remember(key: str, result: Result) -> None:
    try:
        files.write(_path(key), [json.dumps(result).encode()])
    except InputError:
        if _recall(key) is None:  # else another study was at the same trial
            raise


def _recall(key: str) -> Result | None:
    try:
        result: Result = json.loads(_path(key).read_bytes())
    except (OSError, ValueError):
        return None
    return result
