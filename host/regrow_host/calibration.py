"""Which samples levels are fitted to: enough of them, and such as the network will see."""

import numpy as np

from regrow_host import data
from regrow_host.data import Samples
from regrow_host.runner import Floats, Predict

FEW, TOO_FEW = 200, 50
UNLIKE = 0.2
SIGNIFICANT = 8.0


def choose(
    given: Floats | None, own: Floats, most: int, seed: int, predict: Predict
) -> tuple[Floats, bool, str]:
    """At most `most` inputs, whether levels may be fitted to them, and a warning or "".

    `given` are those of --calib, `own` those of --data that the search may use, which serve where the given
    ones are few, or other than they: in what they are or in what the network (`predict`) makes of them.
    """
    warning = ""
    x = data.some(Samples(own if given is None else given, None), most, seed).x
    if given is not None:
        other = data.some(Samples(own, None), most, seed).x
        if unlike(x, other) or unlike(predict(x), predict(other)):
            warning = (
                "the samples of --calib do not look like those of --data: a part of these calibrates instead"
            )
            x = other
        elif len(x) < FEW:
            x = np.concatenate([x, other[: most - len(x)]])
    if len(x) < TOO_FEW:
        return (
            x,
            False,
            f"{len(x)} calibration samples are too few to fit levels to: give {FEW} or more by --calib",
        )
    if len(x) < FEW and not warning:
        warning = f"{len(x)} calibration samples are few: {FEW} or more make smaller packs"
    return x, True, warning


def unlike(values: Floats, others: Floats) -> bool:
    """Whether the means of two sets (n, ...) differ: the square of their distance is more than UNLIKE of the
    variance of the others, and more than chance would have it.
    """
    a, b = (each.reshape(len(each), -1).astype(np.float64) for each in (values, others))
    distance = float(np.square(a.mean(axis=0) - b.mean(axis=0)).sum())
    spread, other = float(a.var(axis=0).sum()), float(b.var(axis=0).sum())
    chance = spread / len(a) + other / len(b)
    return distance > UNLIKE * other and distance > SIGNIFICANT * chance
