"""Zero skipping: how many weights and activations are zero, and what time leaving them out saves."""

import copy
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import regrow
from ai_edge_litert.interpreter import Interpreter, OpResolverType  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

import regrow_host
from regrow_host import tflite
from regrow_host.files import temporary_folder
from regrow_host.study import commands, plots, quantization
from regrow_host.study.experiment import Figure, Outcome, Outcomes, Table, Unfit
from regrow_host.study.lab import Lab, Result, Settings, trial
from regrow_host.study.subject import Subject
from regrow_host.tflite import WeightTensor

TITLE = "Zero skipping"
QUESTION = "How many weights and activations are zero, and what time is saved by leaving them out?"
METHOD = (
    "Zeros among float32 weights, among the same at 8 bits, and among what layers take, over 20 samples. "
    "numpy: the product of each dense layer with one sample, whole and with the rows of zero inputs left "
    "out, in turn. Board: `regrow profile` of a raw int8 pack on MicroPython's unix port, beside the same "
    "network without ReLUs. That is no runtime without skipping: it has fewer zeros, and leaves those out as "
    "well, so the table tells both shares and the time is that of the difference. Rounds compare two runs "
    "one "
    "after the other; the median and the range of them are given, as other work ran on the machine."
)

SAMPLES = 20
REPEATS = 30
RUNS = 7
SIDES = "skipping", "whole"
MOST_ON_BOARD = 400_000
"""Weights up to which a network is run in the board runtime: what fits a board's flash."""

Floats = NDArray[np.float32]


def _inputs(subject: Subject, samples: int) -> list[Floats]:
    """What each layer takes, for the first samples."""
    model = tflite.read(subject.model)
    interpreter = Interpreter(
        model_content=subject.model,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
        num_threads=1,
    )
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    taken: list[list[Floats]] = [[] for _ in subject.layers]
    for sample in subject.held_out.inputs[:samples]:
        interpreter.set_tensor(source["index"], sample.reshape(source["shape"]))
        interpreter.invoke()
        for layer, found in zip(subject.layers, taken, strict=True):
            index = model.operators[layer.operator].layer_inputs[0]
            found.append(np.array(interpreter.get_tensor(index), np.float32))
    return [np.stack(each) for each in taken]


def _numpy(layer: WeightTensor, x: Floats) -> tuple[float, float]:
    """Least microseconds of x @ weights, sample by sample: whole, and without the zeros of x."""
    weights = np.ascontiguousarray(layer.values.T)
    whole, skipped = [], []
    for _ in range(REPEATS):
        started = time.perf_counter()
        for sample in x:
            sample @ weights
        middle = time.perf_counter()
        for sample in x:
            (kept,) = sample.nonzero()
            sample[kept] @ weights[kept]
        whole.append(middle - started)
        skipped.append(time.perf_counter() - middle)
    return 1e6 * min(whole) / len(x), 1e6 * min(skipped) / len(x)


def _layer(layer: WeightTensor, x: Floats) -> Result:
    rounded = quantization.rounded(layer, quantization.CHANNEL)
    result: Result = {
        "name": layer.name,
        "kind": layer.kind,
        "count": layer.count,
        "weights": float((layer.values == 0).mean()),
        "weights at 8 bits": float((rounded == 0).mean()),
        "activations": float((x == 0).mean()),
    }
    if layer.kind == "dense":
        result["whole_us"], result["skipped_us"] = _numpy(layer, x.reshape(-1, layer.shape[1]))
    return result


@trial(quantization.rounded, _inputs, _numpy, _layer)
def count(subject: Subject, settings: Settings) -> Result:
    """Per layer the shares of zeros, and of dense ones numpy's microseconds with and without them."""
    inputs = _inputs(subject, settings["samples"])
    return {"layers": [_layer(layer, x) for layer, x in zip(subject.layers, inputs, strict=True)]}


def without_relus(data: bytes) -> bytes:
    """The network with every ReLU, of its own or inside another operator, taken out."""
    model = tflite.read(data)
    operators, same = [], dict[int, int]()
    for operator in model.operators:
        inputs = tuple(same.get(i, i) for i in operator.inputs)
        each = replace(operator, inputs=inputs, options=copy.copy(operator.options))
        if each.name in ("RELU", "RELU6"):
            same[each.outputs[0]] = each.inputs[0]
            continue
        if getattr(each.options, "fusedActivationFunction", 0):
            each.options.fusedActivationFunction = 0
        operators.append(each)
    graph = replace(model.subgraphs[0], operators=operators)
    return tflite.build(
        tflite.without_unused_tensors(replace(model, subgraphs=[graph, *model.subgraphs[1:]]))
    )


@trial(regrow, regrow_host, commands, without_relus)
def on_board(subject: Subject, settings: Settings) -> Result:
    """`regrow profile` of raw packs of the network and of the same without ReLUs, `repeats` rounds in turn:
    microseconds of all rounds, and the share of products left out.
    """
    models = {"skipping": subject.model, "whole": without_relus(subject.model)}
    with temporary_folder() as name:
        packs = {}
        for which, model in models.items():
            folder = name / which
            folder.mkdir()
            words = ["--codec", "raw", "--target", "board"]
            packs[which] = *commands.compress(replace(subject, model=model), words, folder)[:2], folder
        profiles: dict[str, list[Result]] = {which: [] for which in packs}
        for _ in range(settings["repeats"]):
            for which, (pack, data, folder) in packs.items():
                profiles[which].append(
                    commands.result_of(["profile", str(pack), "--data", str(data)], folder)
                )
    return {
        which: {
            "us": [each["us"] for each in rounds],
            "left out": rounds[0]["zeros_skipped"] / rounds[0]["macs"],
        }
        for which, rounds in profiles.items()
    }


def run(lab: Lab, subject: Subject) -> Outcome:
    (counted,) = lab.map("counting zeros", count, subject, [{"samples": SAMPLES}])
    outcome: Outcome = {**counted, "board": None}
    if sum(layer.count for layer in subject.layers) <= MOST_ON_BOARD:
        with suppress(Unfit):  # an operator that boards do not have
            (outcome["board"],) = lab.map("profiling the board", on_board, subject, [{"repeats": RUNS}])
    return outcome


def figures(outcomes: Outcomes) -> list[Figure]:
    def panel(axes: Axes, model: str) -> None:
        layers = outcomes[model]["layers"]
        places = np.arange(len(layers))
        for name, colour in (("activations", plots.BLUE), ("weights at 8 bits", plots.ORANGE)):
            axes.plot(places, [100 * each[name] for each in layers], "o-", color=colour, label=f"zero {name}")
        axes.set(ylim=(0, 103), xlabel="layer", ylabel="zeros, %")
        plots.whole(axes)

    caption = "Zeros among what each layer takes (its activations) and among its weights at 8 bits."
    return [plots.grid("zeros", caption, list(outcomes), panel), *_saved(outcomes)]


def _saved(outcomes: Outcomes) -> list[Figure]:
    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        for i, outcome in enumerate(outcomes.values()):
            dense, board = _numpy_saved(outcome), _board_saved(outcome)
            if dense is not None:
                axes.barh(i - 0.2, dense, 0.36, color=plots.BLUE)
                _label(axes, i - 0.2, dense, dense)
            if board:
                least, middle, most = board
                axes.barh(i + 0.2, middle, 0.36, color=plots.ORANGE)
                axes.plot([least, most], [i + 0.2] * 2, color=plots.INK, linewidth=0.8)
                _label(axes, i + 0.2, middle, min(least, 0) if middle < 0 else most)
        axes.barh(0, 0, 0, color=plots.BLUE, label="numpy, dense layers")
        axes.barh(0, 0, 0, color=plots.ORANGE, label="board runtime, network (line: range of rounds)")
        ends = [value for value in map(_numpy_saved, outcomes.values()) if value is not None]
        ends += [board[1] for board in map(_board_saved, outcomes.values()) if board]
        axes.set_xlim(1.15 * min(ends, default=0) - 20, max(ends, default=0) + 60)
        axes.axvline(0, color=plots.INK, linewidth=0.6)
        axes.set_yticks(range(len(outcomes)), [plots.title(model) for model in outcomes])
        axes.invert_yaxis()
        axes.set_xlabel("time saved by leaving out zeros, %")
        plots.legend(canvas, axes)

    caption = (
        "Time saved; a negative share is lost. Networks without an orange bar exceed a board, or were not "
        "measured on its runtime in this run. Ranges that leave the figure stand in the table."
    )
    return [Figure("zeros-time", caption, (8.2, 0.36 * len(outcomes) + 1.0), draw)]


def _label(axes: Axes, place: float, value: float, end: float) -> None:
    """The value beyond the end of its bar."""
    side = "right" if value < 0 else "left"
    axes.annotate(
        f"{value:.0f}",
        (end, place),
        (-3 if value < 0 else 3, 0),
        textcoords="offset points",
        ha=side,
        va="center",
        size=6.5,
    )


def _numpy_saved(outcome: Outcome) -> float | None:
    dense = [each for each in outcome["layers"] if "whole_us" in each]
    whole = sum(each["whole_us"] for each in dense)
    return 100 * (1 - sum(each["skipped_us"] for each in dense) / whole) if dense else None


def _board_saved(outcome: Outcome) -> tuple[float, float, float] | None:
    """Least, median and most percent saved, over the rounds: each compares two runs one after the other."""
    board = outcome["board"]
    if not board:
        return None
    saved = [100 * (1 - a / b) for a, b in zip(board["skipping"]["us"], board["whole"]["us"], strict=True)]
    return min(saved), float(np.median(saved)), max(saved)


def _share(layers: Any, name: str) -> float:
    return 100 * float(
        np.average([each[name] for each in layers], weights=[each["count"] for each in layers])
    )


def tables(outcomes: Outcomes) -> list[Table]:
    rows = []
    for model, outcome in outcomes.items():
        layers, board = outcome["layers"], outcome["board"]
        numpy_saved, board_saved = _numpy_saved(outcome), _board_saved(outcome)
        rows.append(
            [
                plots.title(model),
                f"{_share(layers, 'weights'):.2f}",
                f"{_share(layers, 'weights at 8 bits'):.1f}",
                f"{100 * np.mean([each['activations'] for each in layers]):.1f}",
                "" if numpy_saved is None else f"{numpy_saved:+.0f}",
                " / ".join(f"{100 * board[which]['left out']:.1f}" for which in SIDES) if board else "",
                " / ".join(f"{np.median(board[which]['us']) / 1000:.2f}" for which in SIDES) if board else "",
                "{1:+d} ({0:+d} to {2:+d})".format(*map(round, board_saved)) if board_saved else "",
            ]
        )
    columns = (
        "model",
        "zero weights, float32, %",
        "at 8 bits, %",
        "zero activations, %",
        "numpy: time saved, %",
        "board: products left out with / without ReLUs, %",
        "ms with / without",
        "time saved, % (range)",
    )
    return [Table("Zeros and the time that leaving them out saves.", columns, rows)]


def finding(outcomes: Outcomes) -> str:
    activations = [100 * np.mean([each["activations"] for each in o["layers"]]) for o in outcomes.values()]
    weights = [_share(o["layers"], "weights at 8 bits") for o in outcomes.values()]
    exact = max(_share(o["layers"], "weights") for o in outcomes.values())
    text = (
        f"Trained float32 weights are practically never zero (at most {exact:.2f} %), at 8 bits "
        f"{np.median(weights):.1f} % are (median); of what layers take {np.median(activations):.0f} % is "
        "zero. "
    )
    numpy_saved = [s for o in outcomes.values() if (s := _numpy_saved(o)) is not None]
    board_saved = [found for o in outcomes.values() if (found := _board_saved(o)) is not None]
    if numpy_saved:
        text += (
            f"numpy saves {min(numpy_saved):.0f} to {max(numpy_saved):.0f} % of the time of dense layers "
            "(negative: it takes longer): gathering the rows that are left costs more than all products. "
        )
    if board_saved:
        middles = [middle for _, middle, _ in board_saved]
        unclear = sum(least < 0 < most for least, _, most in board_saved)
        text += (
            f"The board runtime saves {min(middles):.0f} to {max(middles):.0f} % of its time with its ReLUs' "
            "zeros "
            f"over the same network without ReLUs (medians); on {unclear} of {len(middles)} networks rounds "
            "disagree "
            "about the sign, so nothing is told there."
        )
    return text
