"""A remedy in the method's own spirit: other batches, and a short training that knows of them."""

import hashlib
from dataclasses import dataclass, fields
from functools import cached_property
from io import BytesIO
from math import lgamma, log
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from regrow.errors import InputError
from regrow.generator import grow
from regrow.reader import Reader
from regrow.weights import Weights

from regrow_host import tflite
from regrow_host.encode import central
from regrow_host.runner import Runner
from regrow_host.study import centralizing, datasets, models, plots, tail
from regrow_host.study.centralizing import centralized
from regrow_host.study.experiment import Figure, Outcome, Outcomes, Table, Unfit
from regrow_host.study.lab import Lab, Result, Settings, trial
from regrow_host.study.subject import Subject
from regrow_host.study.tail import Adam, Tail

TITLE = "A remedy: other batches, and training for them"
QUESTION = (
    "Does it help to choose the batches better, or to train for a while with weights that are centralized?"
)
METHOD = (
    "Dense layers alone. Batches along rows (the weights of one neuron, as `.tflite` stores them), along "
    "columns (the weights of one input, as Keras does), or of the layer's weights sorted by value, whose "
    "order a pack must then hold as well: log2(n!) bits for n weights are counted. Trained: means, "
    "deviations and biases are the parameters of a short training (Adam; other layers fixed), whose weights "
    "are those that a device grows from them, with the very random numbers of its generator; judged is what "
    "the real part grows into. Where a data set has no training samples the source is the teacher: its "
    "answers to the samples that search stand for labels."
)

SIZES = 2, 4, 16, 64, 256
ORDERS = "rows", "columns", "sorted"
MOST_SAMPLES = 20_000
TRAINED_SIZES = 4, 16, 64
STEPS = 6000
BATCH = 128
RATE = 1e-2
COLOURS = {
    "rows": plots.ORANGE,
    "columns": plots.RED,
    "sorted": plots.VIOLET,
    "trained, mean": plots.GREEN,
    "trained, uniform": plots.BLUE,
}

Floats = NDArray[np.float32]


@trial(centralizing, central)
def reorder(subject: Subject, settings: Settings) -> Result:
    """Centralize the dense layers in batches of `size` along an `order`, restored as `restore`."""
    size, weights = 0, {}
    for layer in subject.select("dense"):
        flat = layer.values.ravel()
        order = np.arange(flat.size)
        if settings["order"] == "columns":
            order = order.reshape(layer.shape).T.ravel()
        elif settings["order"] == "sorted":
            order = np.argsort(flat, kind="stable")
            size += round(lgamma(flat.size + 1) / log(2) / 8)
        grown, part = centralized(
            flat[order], "batch", settings["restore"], settings["size"], settings["seed"]
        )
        weights[layer.number] = np.empty_like(flat)
        weights[layer.number][order] = grown
        size += part
    return subject.accuracy(weights) | {"bytes": size}


@dataclass(frozen=True)
class Course:
    """A subject and training samples in the model's shape; y are classes, empty where inputs are targets."""

    subject: Subject
    x: NDArray[Any]
    y: NDArray[Any]

    def __reduce__(self) -> Any:
        return Course, tuple(getattr(self, each.name) for each in fields(self))

    @property
    def digest(self) -> str:
        whole = hashlib.sha256(self.subject.digest.encode())
        for array in (self.x, self.y):
            whole.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        return whole.hexdigest()

    @cached_property
    def tail(self) -> Tail:
        return Tail.of(self.subject.model)

    @cached_property
    def features(self) -> Floats:
        return self.tail.features(self.subject.model, self.x.astype(np.float32))


class Central:
    """The weights of a layer as a device grows them: W = scale (m + s u - mean(s u)), batch by batch.

    m, s >= 0 are the parameters, in units of the layer's own deviation `scale`, so that layers of small and
    of large weights learn alike; u in [-1, 1) are the generator's numbers (0 where restored as `mean`). The
    last term is the bias of the part, which keeps the layer's mean.
    """

    def __init__(self, values: Floats, restore: str, size: int, seed: int) -> None:
        self.shape, self.restore, self.size, self.seed = values.shape, restore, size, seed
        index = np.arange(values.size)
        self.batch = index // size
        self.counts = np.bincount(self.batch).astype(np.float32)
        self.u = np.zeros(values.size, np.float32)
        if restore == "uniform":
            self.u = (grow(seed, index) / 32768 - 1).astype(np.float32)
        self.scale = max(float(values.std()), 1e-12)
        flat = values.ravel() / np.float32(self.scale)
        self.m = self._sum(flat) / self.counts
        self.s = np.sqrt(self._sum(np.square(flat - self.m[self.batch])) / self.counts)

    def values(self) -> Floats:
        noise = self.s[self.batch] * self.u
        whole = self.m[self.batch] + noise - noise.mean()
        return np.asarray(whole.reshape(self.shape) * np.float32(self.scale))

    def gradients(self, weights: Floats) -> tuple[Floats, Floats]:
        """Of m and s, from that of the weights."""
        flat = weights.ravel() * np.float32(self.scale)
        return self._sum(flat), self._sum((flat - flat.mean()) * self.u)

    def part(self) -> bytes:
        """The weights part: of weights that have these means and deviations."""
        signs = np.where(np.arange(self.batch.size) % self.size % 2, -1, 1).astype(np.float32)
        signs -= (self._sum(signs) / self.counts)[self.batch]
        spread = np.sqrt(self._sum(np.square(signs)) / self.counts)
        signs /= np.where(spread > 0, spread, 1)[self.batch]
        weights = (self.m[self.batch] + self.s[self.batch] * signs) * np.float32(self.scale)
        restoration = centralizing.RESTORATIONS[self.restore]
        return central.encode(weights, central.BATCH, restoration, self.size, self.seed)

    def _sum(self, flat: Floats) -> Floats:
        return np.add.reduceat(flat, np.arange(0, flat.size, self.size)).astype(np.float32)


@trial(centralizing, central, tail, Course, Central)
def train(course: Course, settings: Settings) -> Result:
    """Train the dense end of the network in batches of `size`, restored as `restore`, for `steps`."""
    end, x, y = course.tail, course.features, course.y
    biases = end.parameters()
    layers = {
        index: Central(biases.pop(index), settings["restore"], settings["size"], settings["seed"])
        for index in end.weights
    }
    statistics = {(i, name): getattr(each, name) for i, each in layers.items() for name in ("m", "s")}
    adams = Adam(biases), Adam(statistics)
    random = np.random.default_rng(settings["seed"])
    for step in range(settings["steps"]):
        which = random.choice(len(x), min(BATCH, len(x)), replace=False)
        grown = biases | {index: layer.values() for index, layer in layers.items()}
        values = end.forward(grown, x[which])
        outputs = values[end.target]
        loss = tail.cross_entropy(outputs, y[which]) if len(y) else tail.squared_error(outputs, x[which])
        gradients = end.backward(grown, values, loss[1])
        of_statistics: dict[tuple[int, str], Floats] = {}
        for index, layer in layers.items():
            own = layer.gradients(gradients.pop(index))
            of_statistics |= {(index, "m"): own[0], (index, "s"): own[1]}
        rate = RATE * (1 + np.cos(np.pi * step / settings["steps"])) / 2
        adams[0].step(biases, gradients, rate)
        adams[1].step(statistics, of_statistics, rate)
        for layer in layers.values():
            np.maximum(layer.s, 0, out=layer.s)
    parts = {index: layer.part() for index, layer in layers.items()}
    changes = dict(biases)
    for index, part in parts.items():
        changes[index] = np.empty(layers[index].shape, np.float32)
        Weights(Reader(BytesIO(part), 0, len(part))).read_floats(changes[index])
    model = _with_tensors(course.subject.model, changes)
    return course.subject.judge(model) | {"bytes": sum(map(len, parts.values()))}


def _with_tensors(data: bytes, changes: dict[int, Floats]) -> bytes:
    tensors = tflite.read(data).tensors
    changed = bytearray(data)
    for index, values in changes.items():
        buffer = tensors[index].buffer
        assert buffer is not None
        changed[buffer[0] : buffer[0] + values.nbytes] = values.astype("<f4").tobytes()
    return bytes(changed)


def run(lab: Lab, subject: Subject) -> Outcome:
    """Raises Unfit for a model without dense layers."""
    dense = subject.select("dense")
    if not dense:
        raise Unfit("it has no dense layer")
    largest = max(layer.count for layer in dense)
    sizes = [size for size in SIZES if size <= largest]
    ways: list[Settings] = [
        {"order": order, "restore": restore, "size": size, "seed": lab.seed}
        for order in ORDERS
        for restore in centralizing.RESTORATIONS
        for size in sizes
    ]
    curves: dict[str, list[Result]] = {}
    for way, result in zip(ways, lab.map("forming batches", reorder, subject, ways), strict=True):
        curves.setdefault(f"{way['order']}, {way['restore']}", []).append(result | {"size": way["size"]})
    (original,) = lab.map("measuring", reorder, subject, [ways[0] | {"size": 1, "restore": "mean"}])
    outcome: Outcome = {
        "original": original["held_out"],
        "weights": sum(layer.count for layer in dense),
        "curves": curves,
        "untrained": "",
    }
    try:
        course = _course(subject, lab.seed)
    except InputError as error:
        return outcome | {"untrained": str(error)}
    trained: list[Settings] = [
        {"restore": restore, "size": size, "seed": lab.seed, "steps": STEPS}
        for restore in centralizing.RESTORATIONS
        for size in TRAINED_SIZES
        if size in sizes
    ]
    for way, result in zip(trained, lab.map("training", train, course, trained), strict=True):
        curves.setdefault(f"trained, {way['restore']}", []).append(result | {"size": way["size"]})
    return outcome


def _course(subject: Subject, seed: int) -> Course:
    """What there is to train with. Raises InputError where the network does not end in dense layers."""
    Tail.of(subject.model)
    spec = models.find(subject.name)
    data = datasets.load(spec.data)
    if len(data.x_train):
        chosen = np.sort(np.random.default_rng(seed).permutation(len(data.x_train))[:MOST_SAMPLES])
        x, y = spec.prepare(data.x_train[chosen]), data.y_train[chosen]
    else:
        judge = subject.searching
        x, y = judge.inputs, judge.answered(judge.outputs(Runner(subject.model))).labels
    if subject.metric == "auc":
        return Course(subject, x.reshape(-1, x.shape[-1])[:MOST_SAMPLES], np.zeros(0, np.int64))
    return Course(subject, x, y)


def figures(outcomes: Outcomes) -> list[Figure]:
    def panel(axes: Axes, model: str) -> None:
        outcome = outcomes[model]
        axes.axhline(outcome["original"], color=plots.INK, linewidth=0.8, label="original")
        for name, colour in COLOURS.items():
            points = _curve(outcome, name)
            line = [point["size"] for point in points], [point["held_out"] for point in points]
            axes.plot(*line, "o-", color=colour, label=name)
        plots.logarithmic(axes, 2)
        axes.set(xlim=(1.7, 300), ylim=(0, 103), xlabel="batch size", ylabel="accuracy, %")

    caption = (
        "Accuracy against batch size, dense layers. Untrained curves are of the better restoration at each "
        "size; sorted batches need some 15 bits a weight for their order."
    )
    fullest = sorted(outcomes, key=lambda model: -len(outcomes[model]["curves"]))
    return [plots.grid("remedy", caption, fullest, panel)]


def _curve(outcome: Outcome, name: str) -> list[Result]:
    """The points of a way of training, or of an order the better restoration at each size."""
    curves = outcome["curves"]
    if name in curves or name.startswith("trained"):
        return list(curves.get(name, []))
    both = zip(*(curves[f"{name}, {restore}"] for restore in centralizing.RESTORATIONS), strict=True)
    return [max(pair, key=lambda each: float(each["held_out"])) for pair in both]


def tables(outcomes: Outcomes) -> list[Table]:
    rows = []
    for model, outcome in outcomes.items():
        for name in COLOURS:
            points = {point["size"]: point for point in _curve(outcome, name)}
            cells = [f"{points[size]['held_out']:.2f}" if size in points else "" for size in SIZES]
            bits = [8 * points[size]["bytes"] / outcome["weights"] for size in (4, 64) if size in points]
            why = outcome["untrained"] if name.startswith("trained") else ""
            spent = " / ".join(f"{each:.2f}" for each in bits)
            rows.append([plots.title(model), name, f"{outcome['original']:.2f}", *cells, spent or why])
    columns = ("model", "batches", "original", *(f"of {size}" for size in SIZES), "bits a weight at 4 / 64")
    return [Table("Accuracy in percent on the samples that judge.", columns, rows)]


def finding(outcomes: Outcomes) -> str:
    whole = [outcome for outcome in outcomes.values() if "trained, uniform" in outcome["curves"]]
    text = _orders(outcomes)
    if not whole:
        return text
    lost: dict[str, list[float]] = {}
    for outcome in whole:
        for name in ("rows", "trained, uniform", "trained, mean"):
            at16 = [each for each in _curve(outcome, name) if each["size"] == 16]
            lost.setdefault(name, []).extend(outcome["original"] - each["held_out"] for each in at16)
    return text + (
        f" Training with centralized weights is what helps: at batches of 16 the {len(whole)} models that it "
        f"was tried on lose {np.median(lost['trained, uniform']):.1f} points (median; uniform) and "
        f"{np.median(lost['trained, mean']):.1f} (mean), where the method as it is loses "
        f"{np.median(lost['rows']):.1f}. Means alone are weights shared within a batch; deviations give "
        "every weight a random part to be used, for twice the bytes."
    )


def _orders(outcomes: Outcomes) -> str:
    lost = {
        order: [o["original"] - _curve(o, order)[1]["held_out"] for o in outcomes.values()]
        for order in ORDERS
    }
    middle = {order: float(np.median(each)) for order, each in lost.items()}
    return (
        f"At batches of 4 models lose {middle['rows']:.0f} points along rows and {middle['columns']:.0f} "
        "along columns (medians): neither has weights that resemble each other. Sorted they lose "
        f"{round(middle['sorted'], 1) + 0:.1f}, but the order costs more than the weights' int8 values would."
    )
