"""nncodec, the reference software of neural network coding (ISO/IEC 15938-17), as a peer to measure against.

It wants numpy below 2, so it runs in a Python of its own (nncodec_worker.py), on all cores.
"""

import json
import math
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from regrow.errors import RegrowError

from regrow_host.tflite import Array, WeightTensor

Floats = NDArray[np.float32]
Setting = dict[str, Any]

WORKER = Path(__file__).with_name("nncodec_worker.py")
STEPS_PER_OCTAVE = 4
"""The step of qp is (1 + (qp % 4) / 4) * 2^(qp // 4)."""
SPACING = 2
FIRST_FINER = 0, 8, 16, 24
"""By how many steps of qp the first layer's may be finer: its weights may be small."""

FED: Sequence[Setting] = [
    {"qp": qp, "use_dq": dependent, "opt_qp": False, "row_skipping": False}
    for dependent, lowest in ((True, -6), (False, -3))
    for qp in range(lowest, lowest + 8, 2)
]
"""What is tried where steps are given. qp 0 is a step of 1; dependent quantization takes smaller ones."""


@dataclass(frozen=True)
class Coded:
    """A bitstream of all weight tensors: its bytes, and the weights that it decodes to, by number."""

    setting: Setting
    size: int
    values: dict[int, Floats]

    @property
    def label(self) -> str:
        """The setting in short: qp, that of the first layer, DQ and opt_qp where they are on."""
        own = "".join(f" first {qp}" for qp in self.setting.get("qp_per_tensor", {}).values())
        flags = [name for name, key in (("DQ", "use_dq"), ("opt_qp", "opt_qp")) if self.setting[key]]
        return f"qp {self.setting['qp']}{own} {' '.join(flags)}".strip()


def available(python: Path) -> bool:
    """Whether that Python has nncodec."""
    command = [str(python), "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('nncodec') is None)"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def best(
    python: Path,
    weights: Sequence[WeightTensor],
    damage: Callable[[Mapping[int, Floats]], float],
    step: Callable[[int, int], None],
) -> list[tuple[Coded, float]]:
    """The bitstreams that no smaller one beats in damage, from the smallest, over what nncodec can be set to.

    Every second qp from 8 bits in the layer of the smallest weights to steps of two standard deviations, with
    dependent quantization and without, with qp optimized or not, the first layer finer; then the qps beside
    the best. Its other defaults are kept but for row skipping, which it cannot decode for every shape.
    `step(done, total)` is called after each. Raises RegrowError if nncodec fails.
    """
    coarse = settings(weights)
    found = _coded(python, weights, coarse, damage, lambda done: step(done, 2 * len(coarse)))
    front = _front(found)
    near = [
        {**coded.setting, "qp": coded.setting["qp"] + change, **_first(coded.setting, change)}
        for coded, _ in front
        for change in (-1, 1)
    ]
    finer = [setting for number, setting in enumerate(near) if setting not in near[:number]]
    total = len(coarse) + len(finer)
    found += _coded(python, weights, finer, damage, lambda done: step(len(coarse) + done, total))
    return _front(found)


def fed(
    python: Path,
    weights: Sequence[WeightTensor],
    steps: Sequence[Mapping[int, Floats]],
    damage: Callable[[Mapping[int, Floats]], float],
    step: Callable[[int, int], None],
) -> list[tuple[Coded, float]]:
    """The same, where tensors have the steps of others, each time (1,) or (channels,) by number.

    The weights go in as multiples of them, so that one qp serves all tensors; the steps are not counted.
    """
    found: list[tuple[Coded, float]] = []
    for each in steps:
        shown = partial(_later, step, len(found), len(steps) * len(FED))
        found += _coded_in_steps(python, weights, each, damage, shown)
    return _front(found)


def _later(step: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    step(before + done, total)


def _coded_in_steps(
    python: Path,
    weights: Sequence[WeightTensor],
    steps: Mapping[int, Floats],
    damage: Callable[[Mapping[int, Floats]], float],
    step: Callable[[int], None],
) -> list[tuple[Coded, float]]:
    units = {each.number: _along(each, steps[each.number]) for each in weights}

    def real(values: Mapping[int, Floats]) -> dict[int, Floats]:
        return {number: value * units[number] for number, value in values.items()}

    multiples = [replace(each, values=each.values / units[each.number]) for each in weights]
    coded = _coded(python, multiples, FED, lambda values: damage(real(values)), step)
    return [(replace(each, values=real(each.values)), moved) for each, moved in coded]


def _along(weights: WeightTensor, steps: Floats) -> Floats:
    """The step of each weight, in the tensor's shape."""
    along = steps if steps.size == 1 else steps[:, None]
    whole = np.broadcast_to(
        along, (weights.count // weights.channels // weights.inner, weights.channels, weights.inner)
    )
    return np.asarray(whole.reshape(weights.shape), np.float32)


def settings(weights: Sequence[WeightTensor]) -> list[Setting]:
    """What is tried at first."""
    peaks = [float(np.abs(each.values).max()) for each in weights]
    values = np.concatenate([each.values.ravel() for each in weights])
    spread = float(np.sqrt(np.mean(values**2))) or 1.0
    lowest = math.floor(STEPS_PER_OCTAVE * math.log2(min(filter(None, peaks), default=spread) / 127))
    highest = math.ceil(STEPS_PER_OCTAVE * math.log2(2 * spread))
    found = []
    for qp, dependent, optimized, finer in product(
        range(lowest, highest + 1, SPACING), (True, False), (False, True), FIRST_FINER
    ):
        setting: Setting = {"qp": qp, "use_dq": dependent, "opt_qp": optimized, "row_skipping": False}
        if finer:
            setting["qp_per_tensor"] = {f"{weights[0].number}": qp - finer}
        found.append(setting)
    return found


def _first(setting: Setting, change: int) -> Setting:
    """The first layer's qp, moved as the others'."""
    own = {name: qp + change for name, qp in setting.get("qp_per_tensor", {}).items()}
    return {"qp_per_tensor": own} if own else {}


def _front(found: Sequence[tuple[Coded, float]]) -> list[tuple[Coded, float]]:
    front: list[tuple[Coded, float]] = []
    for coded, damage in sorted(found, key=lambda each: (each[0].size, each[1])):
        if not front or damage < front[-1][1]:
            front.append((coded, damage))
    return front


def _coded(
    python: Path,
    weights: Sequence[WeightTensor],
    settings: Sequence[Setting],
    damage: Callable[[Mapping[int, Floats]], float],
    step: Callable[[int], None],
) -> list[tuple[Coded, float]]:
    cores = os.cpu_count() or 1
    done = 0

    def work(core: int) -> list[tuple[Coded, float]]:
        nonlocal done
        results = []
        for coded in encode(python, weights, settings[core::cores]):
            results.append((coded, damage(coded.values)))
            done += 1
            step(done)
        return results

    with ThreadPoolExecutor(cores) as pool:
        return [each for results in pool.map(work, range(cores)) for each in results]


def encode(python: Path, weights: Sequence[WeightTensor], settings: Sequence[Setting]) -> Iterator[Coded]:
    """One bitstream of all weights per setting. nncodec takes rows of output channels."""
    if not settings:
        return
    with TemporaryDirectory(prefix="regrow-nncodec-") as name:
        folder = Path(name)
        rows: dict[str, Any] = {str(each.number): _rows(each, each.values) for each in weights}
        np.savez(folder / "tensors.npz", **rows)
        (folder / "settings.json").write_text(json.dumps(settings))
        command = [str(python), "-I", str(WORKER), name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            assert worker.stderr is not None
            for number, line in enumerate(worker.stdout):
                with np.load(folder / f"{number}.npz") as file:
                    values = {each.number: _unrows(each, file[str(each.number)]) for each in weights}
                (folder / f"{number}.npz").unlink()
                yield Coded(settings[number], int(line), values)
            message = worker.stderr.read().strip()
        if worker.returncode:
            raise RegrowError(f"nncodec failed: {message.splitlines()[-1] if message else worker.returncode}")


def _rows(weights: WeightTensor, values: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(values, -1, 0)) if weights.kind == "depthwise" else values


def _unrows(weights: WeightTensor, rows: Array) -> Floats:
    values = np.moveaxis(rows, 0, -1) if weights.kind == "depthwise" else rows
    return np.ascontiguousarray(values, np.float32)
