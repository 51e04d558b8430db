"""What codec grid expects of the next level: where it lies, how far off it may be, and the residuals' code.

docs/pack-format.md, "Codec 2, grid", has the rules. All numbers are integers, so every device agrees.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from regrow.errors import PackError
from regrow.reader import Reader

PRECISION = 13
TOTAL = 1 << PRECISION
"""The frequencies of all residuals add up to this."""

SHAPES = (
    (30583, 32788, 32588),
    (31173, 32776, 32513),
    (31465, 32772, 32513),
    (31760, 32768, 32767),
    (32007, 32764, 32767),
    (32255, 32759, 32767),
    (32506, 32753, 32767),
    (32758, 32748, 32767),
)
"""Densities with tails from heavy to Gaussian: their first ratio, how it changes, and its most; / 2^15."""

MANTISSAS = tuple(round(2 ** (15 - j / 8)) for j in range(8))
"""The octave in eighths, downward."""

CONSTANT = 3 << 5
"""The form of a body that is one level."""
_UNUSED = 1 << 6
"""Of the other forms."""

UNIT = 16
"""Weights in which a stripe's length is counted."""
MOST_STRIPE = 65520
FARTHEST_LEVEL = 20480
FARTHEST_SIZE = 4096
CLASSES = 16
PHASES = 4

HALF_OCTAVES = 32
"""Of numbers below 2^16."""

_GRID = 512
_MANTISSAS = np.array(MANTISSAS)
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Neighbour:
    """A level so many weights before helps to predict: its weight is in 1/64."""

    distance: int
    weight: int


@dataclass(frozen=True)
class Context:
    """A running average of the residuals' sizes that moves in steps of `distance` weights.

    It goes 1/2^shift of the way to each new size, and has `weight` 16ths of a say in the expected size.
    """

    distance: int
    shift: int
    weight: int


@dataclass(frozen=True)
class Model:
    """The model of one tensor, as it stands at the start of its body."""

    centre: int
    reach: int
    spread: int
    shape: int
    stripe: int
    neighbours: tuple[Neighbour, ...] = ()
    context: Context | None = None
    slope: int = 0
    size: int = 0

    @classmethod
    def parse(cls, forms: int, reader: Reader) -> "Model":
        """What follows the body's first byte. Raises PackError for any field out of its range."""
        if forms & _UNUSED:
            raise PackError("grid weights have a form that is not known")
        shape, many, more = forms & 7, forms >> 3 & 3, forms >> 5 & 1
        centre = reader.i8() if forms >> 7 else 0
        reach, spread, stripe = reader.u8(), reader.u8(), UNIT * (1 + reader.varint())
        neighbours = tuple(Neighbour(reader.varint(), reader.i8()) for _ in range(many))
        context, slope, size = None, 0, 0
        if more:
            slope, size = reader.u8(), reader.u8()
            context = _context(reader)
        model = cls(centre, reach, spread, shape, stripe, neighbours, context, slope, size)
        model.check()
        return model

    def check(self) -> None:
        """Raises PackError for any field out of its range."""
        if not (1 <= self.reach <= 128 and self.spread < 128 and self.slope < 16 and self.size <= 120):
            raise PackError("reach, spread, slope or size of grid weights are out of range")
        if self.stripe not in range(UNIT, MOST_STRIPE + 1, UNIT):
            raise PackError(f"stripes of {self.stripe} grid weights are out of range")
        if not all(1 <= each.distance <= FARTHEST_LEVEL for each in self.neighbours):
            raise PackError("a neighbour of grid weights is out of range")
        if self.context and not 1 <= self.context.distance <= FARTHEST_SIZE:
            raise PackError("the context of grid weights is out of range")

    @property
    def farthest(self) -> int:
        """How many weights back the model looks."""
        distances = [each.distance for each in self.neighbours]
        return max([*distances, self.context.distance if self.context else 0])

    @property
    def rows(self) -> int:
        """How many codes of residuals there are: `below` takes less than this."""
        return CLASSES * PHASES if self.context else PHASES

    @property
    def first_size(self) -> int:
        """What a context expects at first, in 1/256 of a level: 2^(size/8)."""
        return MANTISSAS[-self.size % 8] >> (15 - -(-self.size // 8))

    @property
    def rest(self) -> int:
        """What `first_size` adds to 16 times the expected size."""
        return (16 - self.context.weight if self.context else 0) * self.first_size

    def classes(self) -> Numbers:
        """The class of an expected size by its half octaves, counted around those of the first size."""
        octaves = np.arange(HALF_OCTAVES) - int(half_octaves()[self.first_size])
        return np.clip(octaves + CLASSES // 2, 0, CLASSES - 1)

    def below(self, rows: Numbers) -> Numbers:
        """Of residuals -reach to reach + 1 the frequencies before each, (rows, 2 * reach + 2); a row is
        class * PHASES + phase + 2."""
        return below(self.shape, self.exponents(rows)[:, None], rows[:, None] % PHASES - 2, self.reach)

    def exponents(self, rows: Numbers) -> Numbers:
        """Of the spreads of rows, as `below` takes them."""
        slope = self.slope if self.context else 0
        return np.clip(self.spread + slope * (rows // PHASES - CLASSES // 2), 0, 127)


def _context(reader: Reader) -> Context:
    distance, both = reader.varint(), reader.u8()
    return Context(distance, both & 15, both >> 4)


@lru_cache(1)
def half_octaves() -> Numbers:
    """2 log2 of every number below 2^16, rounded down; 0 of 0."""
    numbers = np.arange(1 << 16)
    octaves = np.maximum(np.frexp(numbers)[1] - 1, 0)
    return np.asarray(2 * octaves + (numbers >= 46341 >> (15 - octaves)), np.int64)


@lru_cache(len(SHAPES))
def _half(shape: int) -> Numbers:
    """The share of one side, / 2^15, within k 32nds of the spread, k from 0 to 512."""
    ratio, change, most = SHAPES[shape]
    density, sums = 1 << 15, [0]
    for _ in range(_GRID):
        sums.append(sums[-1] + density)
        density = density * ratio >> 15
        ratio = min(ratio * change >> 15, most)
    unit = sums[-1] >> 9
    return np.array([min((each << 6) // unit, 1 << 15) for each in sums])


def below(shape: int, exponents: Numbers, phases: Numbers, reach: int) -> Numbers:
    """As `Model.below`, (..., 2 * reach + 2), of spreads of 2^(exponent/8 - 4) levels around places that are
    phase / 4 off a level, both (..., 1)."""
    residuals = np.arange(-reach, reach + 2)
    places = 4 * residuals - 2 - phases
    fine = np.abs(places) * _MANTISSAS[exponents & 7] >> (4 + (exponents >> 3))
    half, at = _half(shape), np.minimum(fine >> 4, _GRID - 1)
    share = np.where(fine >> 4 < _GRID, half[at] + ((half[at + 1] - half[at]) * (fine & 15) >> 4), 1 << 15)
    share = (1 << 15) + np.sign(places) * share
    below: Numbers = residuals + reach + ((share * (TOTAL - 2 * reach - 1)) >> 16)
    below[..., 0], below[..., -1] = 0, TOTAL
    return below
