"""The plans of each codec, from the fewest bytes to the safest, and which of them is taken."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from regrow.errors import InputError, RegrowError
from regrow.pack import USE_EXECUTOR

from regrow_host import console, metrics, options, search
from regrow_host.allocation import Allocation, size
from regrow_host.encode import central
from regrow_host.executors import Executor
from regrow_host.job import Job, Plan
from regrow_host.metrics import Comparison
from regrow_host.options import Layer, Option, Way

if TYPE_CHECKING:
    from regrow_host.finetune import Tuning

TUNED_DAMAGES = 1.25, 1.6, 2.1, 3.0
"""Of the damage that the search allows, that each tuning begins with."""


class DropError(RegrowError):
    """No way to write the model stays within the accuracy drop that is allowed."""


@dataclass(frozen=True)
class Trial:
    """A plan's bytes of weights, nearly, and what networks lost with it on the search samples, in points."""

    batch_size: int | None
    bytes: int
    drops: list[float]


@dataclass
class Planner:
    """Plans for the selected layers of a job; the others keep their weights."""

    job: Job
    selected: Sequence[Layer]
    trials: list[Trial] = field(default_factory=list)

    def exact(self) -> Plan:
        return Plan("raw weights", {layer.number: options.exact(layer) for layer in self.job.layers})

    def _with(self, label: str, changed: Sequence[Option]) -> Plan:
        numbers = [layer.number for layer in self.selected]
        return Plan(label, self.exact().chosen | dict(zip(numbers, changed, strict=True)))

    def central(self, way: Way, batch_size: int | None) -> Plan:
        """All selected layers centralized; `batch_size` is that of the batch unit."""
        label = "central weights of " + (f"batches of {batch_size}" if batch_size else _UNITS[way.unit])
        if way.unit == central.UNITARY:
            values = np.concatenate([layer.values.ravel() for layer in self.selected]).astype(np.float64)
            way = replace(way, mean=float(values.mean()), std=float(values.std()))
        way = replace(way, batch_size=batch_size)
        plan = self._with(label, [options.centralized(layer, way) for layer in self.selected])
        return replace(plan, batch_size=batch_size)

    def threshold(self, way: Way) -> Iterator[Plan]:
        """Central plans from the threshold batch size down. Raises DropError if every size loses too much."""
        bench = self.job.bench(self.job.searching)
        largest = max(layer.values.size for layer in self.selected)
        drops: dict[int, list[Comparison]] = {}
        with console.progress() as bar:
            task = bar.add_task("searching the batch size", total=largest.bit_length() + search.REFINEMENTS)

            def holds(count: int, batch_size: int) -> bool:
                if batch_size not in drops:
                    plan = self.central(way, batch_size)
                    drops[batch_size] = bench.drops(plan)
                    self.trials.append(Trial(batch_size, plan.size, [one.drop for one in drops[batch_size]]))
                    bar.advance(task)
                return bench.holds(drops[batch_size][:count])

            # Where the executor's 8-bit levels lose too much at any size, LiteRT alone decides.
            found = search.threshold(largest, partial(holds, 2)) or search.threshold(
                largest, partial(holds, 1)
            )
        if found is None:
            numbers = ", ".join(f"{each.drops[0]:.1f} at {each.batch_size}" for each in self.trials)
            raise DropError(
                f"central ruins accuracy: no batch size loses under {self.job.max_drop:g} points ({numbers})"
            )
        while found:
            yield self.central(way, found)
            found //= 2

    def priced(self, every_codec: bool, executor: Executor) -> Iterator[Plan]:
        """Per layer the best choice, from the fewest bytes that the search samples allow to the safest."""
        label = "the best mix of codecs" if every_codec else "grid"
        allocation = self._allocation = Allocation(self.job, self.selected, executor)
        seen = 0
        for chosen in allocation.choices(every_codec):
            new = list(allocation.tried.items())[seen:]
            seen += len(new)
            self.trials += [Trial(None, size(options), [trial.drop]) for trial, options in new]
            yield Plan(label, chosen)

    def tuned(self, found: Iterator[Plan]) -> Iterator[Plan]:
        """Before the plans found, which `priced` gives, coarser ones, each tuned, for as long as the search
        samples allow; from the fewest bytes to the safest.

        An interruption ends the tuning with what had held. Too few samples tune nothing. Raises InputError
        for a network that cannot be trained.
        """
        from regrow_host import finetune  # noqa: PLC0415 - takes keras, which few installs have

        finetune.check(self.job.base)
        if not self.job.aware:
            yield from found
            return
        first = next(found)
        bench = self.job.bench(self.job.searching)
        stages: list[Plan] = []
        for number, chosen in enumerate(self._allocation.coarser(TUNED_DAMAGES), 1):
            tuning = finetune.Tuning(
                self.job.base,
                self.job.tuning,
                {layer.number: layer for layer in self.job.layers},
                chosen,
                classifier=self.job.searching.metric in metrics.RANKS,
                steps=finetune.STEPS,
                seed=self.job.seed,
            )
            if not self._tune(tuning, f"tuning, round {number} at {size(chosen):,} bytes"):
                break
            plan = Plan(f"{first.label}, tuned", tuning.options())
            drops = bench.drops(plan)
            self.trials.append(Trial(None, plan.size, [one.drop for one in drops]))
            if not bench.bears(drops):
                break
            if plan.size < first.size:
                stages.append(plan)
        yield from reversed(stages)
        yield first
        yield from found

    def _tune(self, tuning: "Tuning", label: str) -> bool:
        """Whether it was not interrupted."""
        try:
            with console.progress() as bar:
                task = bar.add_task("rounding anew", total=tuning.layers)
                tuning.round(lambda done: bar.update(task, completed=done))
                bar.remove_task(task)
                task = bar.add_task(label, total=tuning.steps)
                tuning.run(lambda done: bar.update(task, completed=done))
        except KeyboardInterrupt:
            self.job.warn(
                f"the tuning was interrupted at step {tuning.done} of {tuning.steps}, where the same command "
                "goes on"
            )
            return False
        return True

    def curve(self, executor: Executor) -> Iterator[Plan]:
        """From few bytes to many, whatever they lose; of every codec."""
        for chosen in Allocation(self.job, self.selected, executor).curve(every_codec=True):
            yield Plan("", chosen)


_UNITS = {central.UNITARY: "the whole network", central.LAYER: "whole layers"}


def select(job: Job, which: str | frozenset[int]) -> list[Layer]:
    """The layers meant by `dense`, `all` or numbers. Raises InputError for numbers that do not exist."""
    if isinstance(which, frozenset):
        if unknown := which - {layer.number for layer in job.layers}:
            raise InputError(f"there is no weight tensor {min(unknown)}: they are 0..{len(job.layers) - 1}")
        return [layer for layer in job.layers if layer.number in which]
    selected = [layer for layer in job.layers if which == "all" or layer.kind == "dense"]
    if not selected:
        raise InputError("the model has no dense layers: choose others with --layers")
    return selected


def take(job: Job, plans: Iterator[Plan], forced: bool) -> tuple[Plan, list[Comparison]]:
    """The first plan that stays within the drop on the held-out samples, and what it loses there.

    Where even the safest does not, it is taken with a warning if it is `forced`, if the samples cannot tell
    its drop from an allowed one, or if only the second of two runtimes loses too much; else DropError.
    """
    bench = job.bench(job.held_out, reference=True)
    for quantized, allowed in zip(bench.quantized, bench.allowed, strict=True):
        if allowed > job.max_drop:
            job.warn(
                f"quantizing to int8 alone loses {points(quantized)}: there {allowed:.2f} points are allowed"
            )
    for steps, plan in enumerate(plans):
        drops = bench.drops(plan, looks=steps + 1)
        if bench.holds(drops):
            if steps:
                job.warn(f"the first choice lost too much on held-out samples: this is {steps} steps safer")
            worst = max(drops, key=lambda each: each.high)
            if worst.high > job.max_drop:
                job.warn(
                    f"too few samples to be sure of --max-drop {job.max_drop:g}: it loses {points(worst)}"
                )
            return plan, drops
    if drops[0].low > bench.allowed[0] and not forced:
        ruins = "central ruins accuracy" if "central" in plan.label else "accuracy is lost"
        raise DropError(f"{ruins}: {plan.label} loses {points(drops[0])}, --max-drop is {job.max_drop:g}")
    for network, drop in zip(job.networks, drops, strict=True):
        if max(drop.drop, drop.likely) > job.max_drop:
            where = " on the executor" if network.use == USE_EXECUTOR else ""
            job.warn(f"{plan.label} loses {points(drop)}{where}, --max-drop is {job.max_drop:g}")
    return plan, drops


def points(drop: Comparison) -> str:
    return (
        f"{drop.drop:.2f} points of {drop.metric} on {drop.samples} held-out samples "
        f"(95 % interval {drop.low:.2f} to {drop.high:.2f}, {drop.expected:.2f} expected)"
    )
