"""The search: per layer the option with the fewest bytes whose damage the accuracy bears."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regrow_host.options import Option

Doubles = NDArray[np.float64]

REFINEMENTS = 8
PRICES = 1e-6, 1e18
"""Bytes for a unit of damage: at one end bytes alone decide, at the other damage alone."""
PRICE_BISECTIONS = 60
TRIALS = 14
FEWEST_ROUNDS = 3
FIRST_BITS = 3
SPREADS = 3.0, 1.3, 1.1
"""How far a round's damages lie from their middle."""
WAYS = 8
"""To go on for a trial that there was not before."""
FAR, FARTHEST = 1.25, 16.0
CURVE_BITS = 0.4, 0.55, 0.75, 1.0, 1.35, 1.8, 2.4, 3.2, 4.2, 5.5
AIM = 0.9
LEAST_POWER, MOST_POWER = 0.5, 2.0
POWER, TRUST = 1.0, 0.3
"""Of drops over divergences: both are squares of small errors. TRUST is the variance, in squared logarithms
of divergences, that trials need before they say as much of the power as this does.
"""
DROP = 0.01
"""Points, below which drops do not differ."""
TINY = 1e-12


@dataclass(frozen=True)
class Candidate:
    """A way to write a layer: rounded at `step`, or as `option` says; its bytes, and its damage: how far the
    outputs move when only this layer is written so.
    """

    size: float
    damage: float
    step: float = 0.0
    option: Option | None = None


def cheapest(layers: Sequence[Sequence[Candidate]], price: float) -> list[Candidate]:
    """Per layer the candidate of least bytes + price * damage.

    Damages add up well enough for small ones, so this minimises the bytes of the whole for its damage
    (Lagrangian; Shoham and Gersho, Efficient bit allocation for an arbitrary set of quantizers, 1988).
    """
    return [min(each, key=lambda one: one.size + price * one.damage) for each in layers]


def within(layers: Sequence[Sequence[Candidate]], damage: float) -> list[Candidate]:
    """Per layer a candidate: the fewest bytes whose damages add up to at most `damage`, or are least."""
    lowest, highest = PRICES
    for _ in range(PRICE_BISECTIONS):
        price = math.sqrt(lowest * highest)
        if _total(cheapest(layers, price)) <= damage:
            highest = price
        else:
            lowest = price
    return cheapest(layers, highest)


def damages(layers: Sequence[Sequence[Candidate]]) -> tuple[float, float]:
    """The sums of the least and of the most damage."""
    return _total(cheapest(layers, PRICES[1])), _total(cheapest(layers, PRICES[0]))


def _total(chosen: Sequence[Candidate]) -> float:
    return sum(each.damage for each in chosen)


@dataclass(frozen=True)
class Trial:
    """What came of a damage that was to be: how far the outputs moved, the drop to be expected, the bytes."""

    damage: float
    divergence: float
    drop: float
    size: float


def rounds(workers: int) -> int:
    """How many rounds of as many trials as there are workers a search takes."""
    return max(FEWEST_ROUNDS, -(-TRIALS // workers))


def damages_to_try(
    layers: Sequence[Sequence[Candidate]], trials: Sequence[Trial], allowed: float, count: int, spread: float
) -> list[float]:
    """`count` damages or fewer, to both sides of the one that should bring the drop to what is allowed, in
    the beginning of that of FIRST_BITS a weight; none that comes to the same candidates as one before.
    """
    least, most = damages(layers)
    middle = _aim(trials, allowed) if trials else _damage_of(layers, FIRST_BITS)
    known = {_sizes(layers, each.damage) for each in trials}
    found = []
    for i in range(count):
        place = (2 * i + 1) / count - 1 if count > 1 else 0.0
        damage = middle * spread**place
        for _ in range(WAYS):
            damage = min(max(damage, least, TINY), max(most, TINY))
            sizes = _sizes(layers, damage)
            if sizes not in known:
                known.add(sizes)
                found.append(damage)
                break
            damage *= spread if place > 0 else 1 / spread
    return sorted(found)


def _sizes(layers: Sequence[Sequence[Candidate]], damage: float) -> tuple[float, ...]:
    return tuple(each.size for each in within(layers, damage))


def damages_of_curve(layers: Sequence[Sequence[Candidate]]) -> list[float]:
    """From that of the fewest bits a weight of a curve to that of the most."""
    return sorted({max(_damage_of(layers, bits), TINY) for bits in CURVE_BITS}, reverse=True)


def settled(layers: Sequence[Sequence[Candidate]], trials: Sequence[Trial], allowed: float) -> bool:
    """Whether a trial holds and much more damage should not, or none can."""
    least, most = damages(layers)
    best = held(trials, allowed)
    if best is None:
        return min(each.damage for each in trials) <= max(least, TINY)
    return _aim(trials, allowed) <= best.damage * FAR or best.damage >= most


def _aim(trials: Sequence[Trial], allowed: float) -> float:
    """The damage that should bring the drop to a little less than what is allowed."""
    wanted = max(_inverse(_drops(trials, allowed), AIM * max(allowed, DROP)), TINY)
    damage = _inverse(_power_law(*_columns(trials, "damage", "divergence"), math.log(wanted)), wanted)
    tried = [each.damage for each in trials]
    return min(max(damage, min(tried) / FARTHEST), max(tried) * FARTHEST)


def held(trials: Iterable[Trial], allowed: float) -> Trial | None:
    """The trial of the fewest bytes whose drop should be within `allowed`: halfway between its own and what
    all of them tell by their divergences.

    Single drops are noisy, divergences hardly: the best of many drops would be one that was lucky.
    """
    trials = sorted(trials, key=lambda each: each.damage)
    if not trials:
        return None
    power, factor = _drops(trials, allowed)

    def likely(each: Trial) -> float:
        return math.sqrt(factor * each.divergence**power * max(each.drop, 0))

    holding = [each for each in trials if likely(each) <= max(allowed, DROP) and each.drop <= 2 * allowed]
    return min(holding, key=lambda each: each.size, default=None)


def _drops(trials: Sequence[Trial], allowed: float) -> tuple[float, float]:
    """Power and factor of drops over divergences."""
    return _power_law(*_columns(trials, "divergence", "drop"), math.log(max(allowed, DROP)))


def _columns(trials: Sequence[Trial], x: str, y: str) -> tuple[Doubles, Doubles]:
    least = {"damage": TINY, "divergence": TINY, "drop": DROP}
    return (
        np.log([max(getattr(each, x), least[x]) for each in trials]),
        np.log([max(getattr(each, y), least[y]) for each in trials]),
    )


def _power_law(x: Doubles, y: Doubles, aim: float) -> tuple[float, float]:
    """exp(y) as factor * exp(x)^power: least squares, where those of a y near `aim` weigh most; small ones
    weigh little, as noise does not shrink with them.
    """
    weights = 1 / (np.exp(2 * (aim - y)) + np.square(y - aim))
    weights /= weights.sum()
    x0, y0 = weights @ x, weights @ y
    covariance, variance = weights @ ((x - x0) * (y - y0)), weights @ np.square(x - x0)
    power = float((covariance + TRUST * POWER) / (variance + TRUST))
    power = min(max(power, LEAST_POWER), MOST_POWER)
    return power, math.exp(y0 - power * x0)


def _inverse(law: tuple[float, float], value: float) -> float:
    power, factor = law
    return float((value / factor) ** (1 / power))


def _damage_of(layers: Sequence[Sequence[Candidate]], bits: float) -> float:
    """That of about so many bits a weight, of which the finest rounded candidate has 8."""
    finest = [max((each.size for each in one if each.step), default=one[0].size) for one in layers]
    most = bits / 8 * sum(finest)
    lowest, highest = PRICES
    for _ in range(PRICE_BISECTIONS):
        price = math.sqrt(lowest * highest)
        if sum(each.size for each in cheapest(layers, price)) <= most:
            lowest = price
        else:
            highest = price
    return _total(cheapest(layers, lowest))


def threshold(largest: int, holds: Callable[[int], bool]) -> int | None:
    """The largest batch size found at which `holds` is true, None if it is at none.

    Tries every power of two and `largest`, then bisects between the largest that holds and the next one,
    which does not. The drop is not monotone in the batch size: that the result holds is assured, and that
    no power of two above it does; sizes between that were not tried may hold.
    """
    sizes = [1 << power for power in range(largest.bit_length()) if 1 << power < largest] + [largest]
    holding = [size for size in sizes if holds(size)]
    if not holding:
        return None
    low = holding[-1]
    high = next((size for size in sizes if size > low), low)
    for _ in range(REFINEMENTS):
        middle = (low + high) // 2
        if middle in (low, high):
            break
        if holds(middle):
            low = middle
        else:
            high = middle
    return low
