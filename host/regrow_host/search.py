"""The search: per layer the option with the fewest bytes whose damage the accuracy bears."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from regrow_host.options import Option

BISECTIONS = 12
REFINEMENTS = 8

Result = TypeVar("Result")


@dataclass(frozen=True)
class Rated:
    """An option with its damage: how far the outputs move when only this layer is written so."""

    option: Option
    damage: float


def cheapest(layers: Sequence[Sequence[Rated]], price: float) -> list[Option]:
    """Per layer the option of least bytes + price * damage.

    Damages add up well enough for small ones, so this minimises the bytes of the whole for its damage
    (Lagrangian; Shoham and Gersho, Efficient bit allocation for an arbitrary set of quantizers, 1988).
    """
    return [min(rated, key=lambda each: each.option.size + price * each.damage).option for rated in layers]


def prices(layers: Sequence[Sequence[Rated]]) -> tuple[float, float]:
    """A price at which bytes alone decide, and one at which damage alone does."""
    damages = [each.damage for rated in layers for each in rated if each.damage > 0]
    sizes = [each.option.size for rated in layers for each in rated]
    if not damages:
        return 1.0, 1.0
    return 0.01 / max(damages), max(sizes) / min(damages)


def lowest_price(low: float, high: float, holds: Callable[[float], bool]) -> float:
    """The lowest price found, by bisection of its logarithm, at which `holds` is true; `high` if none is.

    Accuracy does not fall monotonically with bytes, so a lower price that holds may exist.
    """
    for _ in range(BISECTIONS):
        middle = math.sqrt(low * high)
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


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
