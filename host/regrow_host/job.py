"""What one compression works on: the networks, their layers, and the samples that search and judge."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from regrow.errors import InputError, RegrowError
from regrow.pack import USE_EXECUTOR, USE_LITERT

from regrow_host import calibration, console, data, lower, operators, quantize, rounding, segments, tflite
from regrow_host.biases import Biases
from regrow_host.compact import compact
from regrow_host.data import Samples
from regrow_host.judge import Judge, divergence
from regrow_host.layers import INTEGERS, Network
from regrow_host.metrics import Comparison
from regrow_host.options import Floats, Layer, Option
from regrow_host.runner import Runner
from regrow_host.simplify import simplified

MARGIN = 0.25
"""Of the drop that is allowed: what compression may add to that of int8, if this leaves it less."""
HEAVY = 2e8
"""Multiplications in a pass of all calibration samples."""
RANGE_INPUTS = 256
"""From which the ranges of int8 activations are taken."""
TUNING_INPUTS, TUNING_VALUES = 16384, 1 << 27
"""That are kept to tune weights on, at most."""


@dataclass(frozen=True)
class Plan:
    """One way to write the whole network: its name in messages, an option per layer, by number."""

    label: str
    chosen: dict[int, Option]
    batch_size: int | None = None

    @property
    def size(self) -> int:
        """Bytes of the weights, nearly."""
        return round(sum(option.size for option in self.chosen.values()))


class Bench:
    """One set of samples, and what each network may lose on it.

    `reference` judges the executor's network by the kernels that it equals bit for bit, which are slow.
    """

    def __init__(
        self, judge: Judge, source: bytes, networks: Sequence[Network], max_drop: float, *, reference: bool
    ) -> None:
        self.judge = judge
        self.networks = networks
        self._reference = reference
        self._source = judge.outputs(Runner(source))
        self.quantized = [self._compare(network, network.data) for network in networks]
        # Where quantizing to int8 alone takes nearly all that is allowed, a pack may be likely to lose more.
        self.allowed = [max(max_drop, each.likely + MARGIN * max_drop) for each in self.quantized]
        self._countable = [max(max_drop, each.drop) for each in self.quantized]

    def drops(self, plan: Plan, looks: int = 1) -> list[Comparison]:
        """Per network, source against what grows from the plan, the last of so many that were looked at."""
        return [self._compare(each, each.with_options(plan.chosen), looks) for each in self.networks]

    def expected(self, chosen: dict[int, Option]) -> tuple[float, float]:
        """Of the first network: how far its outputs move, and the drop that is likely, in points."""
        outputs = self.judge.outputs(Runner(self.networks[0].with_options(chosen)))
        moved = divergence(self.judge.metric, self._source, outputs)
        return moved, self.judge.compare(self._source, outputs).likely

    def holds(self, drops: Sequence[Comparison]) -> bool:
        """Whether the first networks, as many as drops are given, lose no more than they may: neither counted
        nor likely, as a count can be lucky.
        """
        counted = zip(drops, self._countable, strict=False)
        return self.bears(drops) and all(each.drop <= most + 1e-9 for each, most in counted)

    def bears(self, drops: Sequence[Comparison]) -> bool:
        """Whether they are likely to lose no more: other samples may then find that they hold."""
        return all(each.likely <= most + 1e-9 for each, most in zip(drops, self.allowed, strict=False))

    def _compare(self, network: Network, model: bytes, looks: int = 1) -> Comparison:
        runner = Runner(model, reference=self._reference and network.use == USE_EXECUTOR)
        return self.judge.compare(self._source, self.judge.outputs(runner), looks)


@dataclass
class Job:
    """`base` is the source as the networks have it: equalized where that helps int8. `calibration` are the
    inputs that levels are rounded on, some of those of `tuning`, that they are tuned on.
    """

    source: bytes
    base: bytes
    networks: list[Network]
    layers: list[Layer]
    calibration: Floats
    tuning: Floats
    searching: Judge
    held_out: Judge
    max_drop: float
    seed: int
    aware: bool = True
    warnings: list[str] = field(default_factory=list)

    @property
    def heavy(self) -> bool:
        """Whether a search is worth processes of its own, which take seconds to begin."""
        return rounding.effort(tflite.read(self.source)) * len(self.calibration) > HEAVY

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)
        console.warn(sentence)

    def bench(self, judge: Judge, *, networks: int = 2, reference: bool = False) -> Bench:
        """A bench of the first `networks`."""
        return Bench(judge, self.source, self.networks[:networks], self.max_drop, reference=reference)


def prepare(
    model: Path,
    samples: Path,
    calib: Path | None,
    *,
    metric: str,
    target: str,
    max_drop: float,
    seed: int,
    tuned: bool = False,
) -> Job:
    """Read model and samples, split, quantize; keep more inputs where weights are to be tuned.

    Raises RegrowError in one sentence for what cannot be used.
    """
    source = _read_model(model)
    runner = Runner(source)
    shapes = runner.input_shape, runner.output_shape
    judge = Judge.of(data.load_npz(samples), metric, shapes, samples)
    unlabelled = judge.samples.y is None
    if unlabelled:
        judge = judge.answered(judge.outputs(runner))
    searching, held_out = map(judge.on, data.split(judge.samples, seed, samples))
    searching = searching.calibrated(searching.outputs(runner))
    held_out = searching.on(held_out.samples)
    given = data.fit(data.load_npz(calib), shapes[0], calib, grouped=True) if calib else None
    affordable = rounding.affordable(tflite.read(source))
    most = min(TUNING_INPUTS, TUNING_VALUES // math.prod(runner.input_shape)) if tuned else 0
    tuning, aware, warning = calibration.choose(
        judge.on(given).inputs if given else None, searching.inputs, max(affordable, most), seed, runner
    )
    inputs = data.some(Samples(tuning, None), affordable, seed).x
    few = data.some(Samples(inputs, None), RANGE_INPUTS, seed).x
    base, networks = _networks(source, target, few, searching, max_drop)
    layers = _layers(base, networks)
    job = Job(source, base, networks, layers, inputs, tuning, searching, held_out, max_drop, seed, aware)
    if unlabelled:
        job.warn("the data has no labels y: --max-drop is the disagreement with the source")
    if warning:
        job.warn(warning)
    return job


def _read_model(path: Path) -> bytes:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the model {path}: {error.strerror}") from None
    try:
        model = tflite.read(source)
        weights = tflite.weight_tensors(model)
    except RegrowError as error:
        raise InputError(f"{path}: {error}") from None
    if tflite.precision(model) == "other":
        raise InputError(
            f"{path} computes in other types than float32 and int8, which regrow does not compress"
        )
    if not weights:
        raise InputError(f"{path} has no layer with weights, so there is nothing to compress")
    for each in weights:
        if not np.isfinite(each.values).all():
            raise InputError(f"{path}: the weights {each.name} are not all finite numbers: train it anew")
    return simplified(source, model)


def _networks(
    source: bytes, target: str, calibration: Floats, searching: Judge, max_drop: float
) -> tuple[bytes, list[Network]]:
    """The base; LiteRT's network and the executor's. An int8 source is all of them at once."""
    model = tflite.read(source)
    precision = tflite.precision(model)
    if precision == "int8":
        if target == "pi" and not _can_lower(model):
            return source, [Network.of(USE_LITERT, source)]
        lower.lower(model)
        return source, [Network.of(USE_EXECUTOR if target == "board" else USE_LITERT | USE_EXECUTOR, source)]
    if target == "pi":
        return source, [Network.of(USE_LITERT, source)]
    _refuse_operators(model)
    with console.progress() as bar:
        task = bar.add_task("quantizing to int8")
        # LiteRT keeps weights in the types that the source has them in; boards have levels only.
        floats = tflite.to_float32(model) if target == "board" and precision != "float32" else source

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        quantized = quantize.best(floats, calibration, progress)
    lower.lower(tflite.read(quantized.integers))
    networks = [] if target == "board" else [Network.of(USE_LITERT, quantized.floats)]
    integer = _integer(source, quantized, calibration, searching, max_drop)
    return quantized.floats, [*networks, integer]


def _integer(
    source: bytes, quantized: quantize.Quantized, calibration: Floats, searching: Judge, max_drop: float
) -> Network:
    """The executor's network. Corrected biases bring its outputs closer to the source's, but some errors
    serve a metric (an autoencoder's on anomalies): biases stay where the search samples clearly say so.
    """
    plain = Network.of(USE_EXECUTOR, compact(quantized.integers))
    base = tflite.read(quantized.floats)
    if not segments.divisible(base):
        return plain
    corrected = Network.of(USE_EXECUTOR, plain.data, Biases.of(tflite.to_float32(base), calibration))
    outputs = searching.outputs(Runner(source))
    before, after = (
        searching.compare(outputs, searching.outputs(Runner(each.data))).likely for each in (plain, corrected)
    )
    return plain if before < after - max_drop / 2 else corrected


def _refuse_operators(model: tflite.Model) -> None:
    """Name an operator that boards cannot run as the source has it: quantizing moves the places."""
    for index, operator in lower.live(model):
        if operator.name not in operators.OPERATORS and operator.name not in ("QUANTIZE", "DEQUANTIZE"):
            name = f"{operator.name} {operator.custom_code}".strip()
            known = ", ".join(sorted(operators.OPERATORS))
            raise InputError(
                f"boards cannot run operator {index} ({name}) of the model: they run {known} only"
            )


def _can_lower(model: tflite.Model) -> bool:
    try:
        lower.lower(model)
    except RegrowError:
        return False
    return True


def _layers(base: bytes, networks: Sequence[Network]) -> list[Layer]:
    """The base's weight tensors, with the levels of its own or else of the integer network."""
    litert = next((each for each in networks if each.use & USE_LITERT), None)
    executor = next((each for each in networks if each.use & USE_EXECUTOR), None)
    integer = tflite.read(executor.data) if executor else None
    integers = tflite.weight_tensors(integer) if integer else []
    layers = []
    for each in tflite.weight_tensors(tflite.read(base)):
        dtype = litert.tensors[each.number][1] if litert else "int8"
        own = each if not integers or (each.levels is not None and litert) else integers[each.number]
        layers.append(
            Layer(
                number=each.number,
                name=each.name,
                kind=each.kind,
                channels=each.channels,
                inner=each.inner,
                values=each.values,
                float_type=None if dtype in INTEGERS else dtype,
                levels=own.levels,
                scales=own.scales,
                least=_least_scales(integer, integers[each.number]) if integer else np.zeros(1, np.float32),
                one_scale=any(network.tensors[each.number][1] == "uint8" for network in networks)
                or (dtype in INTEGERS and bool(litert) and own.scales is not None and own.scales.size == 1),
            )
        )
    return layers


def _least_scales(model: tflite.Model, weights: tflite.WeightTensor) -> Floats:
    """The least scales, 1 or one per channel, in whose units the layer's biases fit 31 bits."""
    operator = model.operators[weights.operator]
    place = operator.layer_inputs[2]
    bias = model.tensors[place].data if place >= 0 else None
    if bias is None or weights.scales is None:
        return np.zeros(1, np.float32)
    return np.asarray(np.abs(bias.astype(np.float64)) * weights.scales / (1 << 30), np.float32)
