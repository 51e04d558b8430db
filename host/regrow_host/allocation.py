"""Bit allocation: how coarse each layer may be, so that the network loses no more than it may."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from regrow_host import console, options, search, segments, tflite
from regrow_host.executors import Executor
from regrow_host.job import Bench, Job
from regrow_host.judge import divergence
from regrow_host.options import Layer, Option
from regrow_host.rounding import Rounding
from regrow_host.runner import Floats, Runner
from regrow_host.search import Candidate, Trial

RATING_INPUTS = 128
CHUNKS = 4
"""Of layers, for a worker."""
STEPS_BACK = 1.1, 1.1, 1.2, 1.25, 1.3, 1.5, 2.0, 3.0, 4.0, 10.0, 10.0, 10.0
"""What divides the damage, choice by choice, before the safest one: far where levels were fitted to so few
samples that these see hardly any damage."""

Chosen = dict[int, Option]
Picks = Mapping[int, Candidate]


@dataclass
class Work:
    """What workers need: `rounding` (None where the network cannot be cut), the search samples' bench."""

    rounding: Rounding | None
    bench: Bench
    layers: dict[int, Layer]
    kept: Chosen
    few: Floats
    every_codec: bool


@dataclass
class Allocation:
    """Finds what becomes of the `layers` of a job; the others keep their weights.

    `tried` are the trials, and what was chosen for each.
    """

    job: Job
    layers: Sequence[Layer]
    executor: Executor
    tried: dict[Trial, Chosen] = field(default_factory=dict)

    def choices(self, every_codec: bool) -> Iterator[Chosen]:
        """From the fewest bytes that the search samples allow to the safest.

        An interruption ends the search: then the best so far comes first, and the safer ones that were tried,
        or KeyboardInterrupt is raised if there is none.
        """
        work = self._prepare(every_codec)
        least, _ = search.damages(list(self._rated.values()))
        allowed = self._allowed = work.bench.allowed[0]
        try:
            self._search(allowed)
        except KeyboardInterrupt:
            best = search.held(self.tried, allowed)
            if best is None:
                raise
            self.job.warn("the search was interrupted: this is the best it had found")
            safer = (each for each in self.tried if each.damage <= best.damage)
            for each in sorted(safer, key=lambda each: -each.damage):
                yield self.tried[each]
            return
        best = search.held(self.tried, allowed)
        # Where search samples bear none the held-out ones may: step back from the finest that was tried.
        damage = best.damage if best else min(each.damage for each in self.tried)
        if best:
            yield self.tried[best]
        for step in STEPS_BACK:
            damage /= step
            if damage > least:
                # A list, as the executor may be gone when the next is wanted.
                yield from list(self._try([damage]))
        yield from list(self._try([least]))

    def coarser(self, times: Sequence[float]) -> Iterator[Chosen]:
        """Choices of so many times the damage of the one that the search samples allow, if any do."""
        best = search.held(self.tried, self._allowed)
        for each in times if best else ():
            assert best
            yield from list(self._try([each * best.damage]))

    def curve(self, every_codec: bool) -> list[Chosen]:
        """Choices from few bytes to many, whatever they lose."""
        self._prepare(every_codec)
        return list(self._try(search.damages_of_curve(list(self._rated.values()))))

    def _prepare(self, every_codec: bool) -> Work:
        work = self._work(every_codec)
        self._shared = self.executor.share(work)
        self._rated = self._rate()
        return work

    def _work(self, every_codec: bool) -> Work:
        job = self.job
        model = tflite.read(job.base)
        rounding = None
        if segments.divisible(model):
            integer = tflite.precision(model) == "int8"
            data = job.base if integer else tflite.to_float32(model)
            rounding = Rounding(data, job.calibration, self.layers, job.searching.metric, job.aware)
        return Work(
            rounding,
            # Of two runtimes the first steers: int8 activations add noise, which held-out samples judge.
            job.bench(job.searching, networks=1),
            {layer.number: layer for layer in self.layers},
            {layer.number: options.exact(layer) for layer in job.layers},
            job.calibration[:: max(1, len(job.calibration) // RATING_INPUTS)],
            every_codec,
        )

    def _rate(self) -> dict[int, list[Candidate]]:
        numbers = [layer.number for layer in self.layers]
        size = -(-len(numbers) // (CHUNKS * self.executor.workers))
        chunks = [numbers[start : start + size] for start in range(0, len(numbers), size)]
        rated: dict[int, list[Candidate]] = {}
        with console.progress() as bar:
            task = bar.add_task("rating the layers", total=len(numbers))
            for chunk, candidates in self.executor.run(rate, self._shared, chunks):
                rated |= candidates
                bar.advance(task, len(chunk))
        return dict(sorted(rated.items()))

    def _search(self, allowed: float) -> None:
        """Rounds of trials, until they are enough and one of them held, or there are no others."""
        layers, count = list(self._rated.values()), self.executor.workers
        rounds = search.rounds(count)
        with console.progress() as bar:
            task = bar.add_task("searching the size", total=rounds * count)
            for number in range(2 * rounds):
                trials = sorted(self.tried, key=lambda each: each.damage)
                if number >= rounds and search.settled(layers, trials, allowed):
                    break
                spread = search.SPREADS[min(number, len(search.SPREADS) - 1)]
                damages = search.damages_to_try(layers, trials, allowed, count, spread)
                if not damages:
                    break
                for _ in self._try(damages):
                    best = search.held(self.tried, allowed)
                    bar.update(task, advance=1, description=self._describe(best))

    def _describe(self, best: Trial | None) -> str:
        if best is None:
            return "searching the size"
        return f"searching the size: {size(self.tried[best]):,} bytes lose {best.drop:.2f} points"

    def _try(self, damages: Sequence[float]) -> Iterator[Chosen]:
        layers = list(self._rated.values())
        items = [
            (damage, dict(zip(self._rated, search.within(layers, damage), strict=True))) for damage in damages
        ]
        for (damage, _), (moved, drop, chosen) in self.executor.run(evaluate, self._shared, items):
            self.tried[Trial(damage, moved, drop, size(chosen))] = chosen
            yield chosen


def size(chosen: Chosen) -> int:
    """Bytes of the weights, nearly."""
    return round(sum(option.size for option in chosen.values()))


def rate(work: Work, numbers: Sequence[int]) -> dict[int, list[Candidate]]:
    """Per layer its candidates."""
    others = {number: list(_others(work.layers[number], work.every_codec)) for number in numbers}
    if work.rounding:
        return work.rounding.candidates(others)
    return {number: _rated(work, number, others[number]) for number in numbers}


def _rated(work: Work, number: int, others: Sequence[Option]) -> list[Candidate]:
    """Plainly rounded candidates and `others`, each by a run of the whole network."""
    network = work.bench.networks[0]
    before = Runner(network.data)(work.few)
    found = []
    for option in [*options.rounded(work.layers[number]), *others]:
        after = Runner(network.with_options({number: option}))(work.few)
        damage = divergence(work.bench.judge.metric, before, after)
        found.append(Candidate(option.size, damage, option=option))
    return found


def _others(layer: Layer, every_codec: bool) -> Iterator[Option]:
    """What a layer may be besides rounded on calibration samples."""
    lossless = options.lossless(layer)
    if lossless:
        yield lossless
    if every_codec:
        yield options.exact(layer)
        yield from options.central_batches(layer)


def evaluate(work: Work, item: tuple[float, Picks]) -> tuple[float, float, Chosen]:
    """How far the outputs move with the picks, the drop that is to be expected, and what the picks become."""
    _, picks = item
    fixed = {number: each.option for number, each in picks.items() if each.option}
    steps = {number: each.step for number, each in picks.items() if not each.option}
    rounded = work.rounding.options(steps, fixed) if work.rounding and steps else {}
    chosen = work.kept | fixed | rounded
    return *work.bench.expected(chosen), chosen
