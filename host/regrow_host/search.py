"""The search: per layer the option with the fewest bytes whose damage the accuracy bears."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from regrow_host.options import Option

REFINEMENTS = 8
PRICES = 1e-6, 1e18
"""Bytes for a unit of damage: at one end bytes alone decide, at the other damage alone."""
PRICE_BISECTIONS = 60
TRIALS = 8
CLOSE = 1.1
FARTHEST = 16.0
AIM = 0.95
FINEST = 1e-6

Result = TypeVar("Result")


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


def most_damage(least: float, most: float, allowed: float, drop: Callable[[float], float]) -> float:
    """The most damage found whose `drop` is within `allowed`; `least` if none is.

    Drops go by a power of the damage, nearly. The last two trials tell where the next one should be (secant
    method on logarithms), between the most damage that held and the least that did not.
    """
    low, high, found = least, most, least
    damage = math.sqrt(max(least, most * FINEST) * most)
    power, last = 1.0, (0.0, 0.0)
    for _ in range(TRIALS):
        measured = drop(damage)
        if measured <= allowed:
            low = found = damage
        else:
            high = damage
        if high <= low * CLOSE:
            break
        if min(*last, measured) > 0 and last[0] != damage:
            power = math.log(measured / last[1]) / math.log(damage / last[0])
        last = damage, measured
        factor = (AIM * allowed / measured) ** (1 / min(max(power, 1 / 3), 3)) if measured > 0 else FARTHEST
        damage *= min(max(factor, 1 / FARTHEST), FARTHEST)
        if not low < damage < high:
            damage = math.sqrt(max(low, high * FINEST) * high)
    return found


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
