"""Every operator on the board's executor: equal to numpy's, which equals TFLite's, and on ints of 32 bits."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy
from networks import BLOCKS, OPERATORS, execute, samples
from regrow_host import bands, lower, planner, tflite
from regrow_host.tflite import Model
from test_board_engine import micropython, write_pack

SAMPLES = 4

COMPARE = """
import micropython, regrow, sys

for number in range(int(sys.argv[1])):
    net = regrow.load("%d.rgp" % number)
    x = [bytearray(info.size * info.item) for info in net.inputs]
    y = [bytearray(info.size * info.item) for info in net.outputs]
    wanted = [bytearray(len(each)) for each in y]
    with open("%d.bin" % number, "rb") as file:
        while file.readinto(x[0]):
            for each in x[1:] + wanted:
                file.readinto(each)
            micropython.heap_lock()
            net.predict(x, y)
            micropython.heap_unlock()
            if y != wanted:
                print(number, x, y, wanted)
    net.close()
print("all ran")
"""


def draw(strategy: SearchStrategy[Model], count: int) -> list[Model]:
    """Some models of a strategy, always the same."""
    models: list[Model] = []

    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(model: Model) -> None:
        models.append(model)

    collect()
    return models


def write(folder: Path, number: int, model: Model, chain: int | None = None) -> None:
    """The model as a pack, perhaps with a chain in bands, and samples with the numpy executor's outputs."""
    lowered = lower.lower(tflite.read(tflite.build(model)))
    graph = lowered.graph
    if chain is not None:
        whole = replace(graph, tensors=tuple(replace(each, rows=0) for each in graph.tensors))
        able = bands.candidates(whole, step=8)
        graph = planner.place(whole, [able[chain % len(able)]])
    weights = [(w.levels, w.scales, w.inner) for w in lowered.weights]
    write_pack(folder / f"{number}.rgp", graph, weights)
    x = samples(model, SAMPLES)
    with (folder / f"{number}.bin").open("wb") as file:
        for sample in zip(*x, *execute(model, x), strict=True):
            file.writelines(array.tobytes() for array in sample)


@pytest.mark.parametrize("name", [*OPERATORS, *BLOCKS])
def test_random_networks_equal_numpy(name: str, tmp_path: Path) -> None:
    """Bit for bit, from the first inference on, and without an allocation in predict."""
    models = draw(OPERATORS[name], 25) if name in OPERATORS else draw(BLOCKS[name], 5)
    for number, model in enumerate(models):
        write(tmp_path, number, model)
    assert micropython(COMPARE, tmp_path, str(len(models))) == "all ran\n"


def test_any_chain_of_ops_runs_band_by_band(tmp_path: Path) -> None:
    models = draw(BLOCKS["residual"], 3)
    for number in range(30):
        write(tmp_path, number, models[number % 3], number // 3 * 2)
    assert micropython(COMPARE, tmp_path, "30") == "all ran\n"
