"""What `regrow compare` sets side by side: ways to make a model small, each with the network that is left."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import zstandard
from numpy.typing import NDArray
from regrow.pack import USE_LITERT

from regrow_host import executors, nncodec, plans, quantize, segments, tflite
from regrow_host.biases import Biases
from regrow_host.encode import central
from regrow_host.job import Job, Plan
from regrow_host.judge import divergence
from regrow_host.layers import Network
from regrow_host.options import Option, Way
from regrow_host.plans import Planner
from regrow_host.runner import Runner

Floats = NDArray[np.float32]

ZSTD_LEVEL = 19
CENTRAL_BATCHES = 2, 4, 8, 16, 32, 128
RESTORATIONS = {"uniform": central.UNIFORM, "mean": central.MEAN}
FED = "nncodec, regrow's steps and biases"
AI_EDGE_RECIPES = {
    "int8 weights": "dynamic_wi8_afp32",
    "int4 weights": "weight_only_wi4_afp32",
}


@dataclass(frozen=True)
class Contender:
    """One way at one setting: the bytes of its weights with their scales, and the `.tflite` to judge."""

    method: str
    setting: str
    weights: int
    model: bytes


def files(work: Job) -> Iterator[Contender]:
    """The source and what converters and general compressors make of it."""
    made = {"source": work.source}
    precision = tflite.precision(tflite.read(work.source))
    if precision != "int8":
        floats = work.source if precision == "float32" else tflite.to_float32(tflite.read(work.source))
        made["int8 .tflite"] = quantize.quantize(floats, work.calibration)
        made |= {f"ai-edge-quantizer, {name}": data for name, data in _ai_edge(floats)}
    for method, data in made.items():
        weights = _weight_bytes(data)
        yield Contender(method, f"{len(data):,} bytes in all", len(weights), data)
        yield Contender(f"{method}, zstd", f"{_zstd(data):,} bytes in all", _zstd(weights), data)


def _weight_bytes(data: bytes) -> bytes:
    """The stored weights of all layers with their scales, whatever their type."""
    model = tflite.read(data)
    made_by = {each.outputs[0]: each for each in model.operators if each.name == "DEQUANTIZE"}
    blobs = []
    for layer in model.operators:
        if layer.name in tflite.WEIGHT_OPERATORS:
            index = layer.layer_inputs[1]
            tensor = model.tensors[made_by[index].inputs[0] if index in made_by else index]
            start, size = tensor.buffer or (0, 0)
            blobs += [data[start : start + size], tensor.scales.tobytes()]
    return b"".join(blobs)


def _zstd(data: bytes) -> int:
    return len(zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(data))


def _ai_edge(model: bytes) -> Iterator[tuple[str, bytes]]:
    """What it makes of the weights alone; nothing where it finds no layer that it can quantize."""
    from ai_edge_quantizer import (  # type: ignore[import-untyped]  # noqa: PLC0415 - slow to import
        quantizer,
        recipe,
    )

    for name, kind in AI_EDGE_RECIPES.items():
        with quantize.silence():
            try:
                result = quantizer.Quantizer(model, getattr(recipe, kind)()).quantize()
            except Exception:  # it raises errors of every kind
                continue
        if len(result.quantized_model) < len(model):
            yield name, bytes(result.quantized_model)


def curve(work: Job) -> list[Plan]:
    """regrow's `auto`, from few bytes to many."""
    with executors.open_executor("processes" if work.heavy else "here") as executor:
        return list(Planner(work, plans.select(work, "all")).curve(executor))


def codecs(work: Job, auto: Sequence[Plan]) -> Iterator[Contender]:
    """regrow's own: the plans of `auto`, and `central` of all layers, restored by both ways."""
    for plan in auto:
        yield _grown("regrow auto", plan, work)
    planner = Planner(work, plans.select(work, "all"))
    for name, restoration in RESTORATIONS.items():
        for batch_size in CENTRAL_BATCHES:
            plan = planner.central(Way(central.BATCH, restoration, seed=work.seed), batch_size)
            yield _grown(f"central, {name}", replace(plan, label=f"batches of {batch_size}"), work)


def _grown(method: str, plan: Plan, work: Job) -> Contender:
    network = work.networks[0]
    weights = sum(len(part) for option in plan.chosen.values() for _, part in option.parts(network.use))
    return Contender(method, plan.label, weights, network.with_options(plan.chosen))


def coded_by_nncodec(work: Job, python: Path, step: Callable[[int, int], None]) -> Iterator[Contender]:
    """The best bitstreams of nncodec, by how far the outputs move on the calibration samples.

    `python` is an interpreter that has it. Raises RegrowError if it fails.
    """
    model = tflite.read(work.source)
    if tflite.precision(model) == "int8":
        return  # it codes floats
    network = Network.of(USE_LITERT, tflite.to_float32(model))
    before = Runner(network.data)(work.calibration)

    def damage(values: Mapping[int, Floats]) -> float:
        after = Runner(network.with_values(values))(work.calibration)
        return divergence(work.searching.metric, before, after)

    weights = tflite.weight_tensors(tflite.read(network.data))
    for coded, _ in nncodec.best(python, weights, damage, step):
        yield Contender("nncodec", coded.label, coded.size, network.with_values(coded.values))


def fed_to_nncodec(
    work: Job, plans: Sequence[Plan], python: Path, step: Callable[[int, int], None]
) -> Iterator[Contender]:
    """The same where nncodec is told the steps of regrow's `plans`, and its biases are corrected as theirs.

    So all that differs is how levels are chosen and coded.
    """
    model = tflite.read(work.source)
    if tflite.precision(model) == "int8" or not segments.divisible(model):
        return
    source = tflite.to_float32(model)
    network = Network.of(USE_LITERT, source, Biases.of(source, work.calibration))
    before = Runner(source)(work.calibration)

    def damage(values: Mapping[int, Floats]) -> float:
        after = Runner(network.with_values(values))(work.calibration)
        return divergence(work.searching.metric, before, after)

    weights = tflite.weight_tensors(tflite.read(network.data))
    steps = [{number: _steps(option) for number, option in plan.chosen.items()} for plan in plans]
    for coded, _ in nncodec.fed(python, weights, steps, damage, step):
        yield Contender(FED, coded.label, coded.size, network.with_values(coded.values))


def _steps(option: Option) -> Floats:
    """Those of its levels; of floats, that of 8 bits."""
    if option.codec == "grid" and option.scales is not None:
        return option.scales
    return np.array([np.abs(option.values).max() / 127 or 1], np.float32)
