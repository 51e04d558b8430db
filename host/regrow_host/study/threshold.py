"""Models and data of the report: the threshold batch size of each, and accuracy against memory."""

from matplotlib.figure import Figure as Canvas

from regrow_host import search
from regrow_host.study import centralizing, plots
from regrow_host.study.centralization import batches, measure, sizes
from regrow_host.study.experiment import Figure, Outcome, Outcomes, Table
from regrow_host.study.lab import Lab, Result
from regrow_host.study.models import SPECS
from regrow_host.study.subject import Subject

TITLE = "Threshold batch size"
QUESTION = (
    "How large may batches be before a model loses 5 points, or more than in the report, and what is "
    "saved then?"
)
METHOD = (
    "The search of `regrow compress --codec central --batch-size auto`: every power of two and the whole "
    "layer, then bisection between the largest size that holds and the next. It sees two fifths of the "
    "samples; accuracies in the tables are those of the other three fifths. Where the report gives no batch "
    "size, 50 stands beside the threshold."
)

ALLOWED = 5.0
"""Points that the threshold may lose."""
USUAL_SIZE = 50


def run(lab: Lab, subject: Subject) -> Outcome:
    spec = SPECS.get(subject.name)
    reported = spec.reported if spec else None
    (original,) = lab.map("measuring", measure, subject, [batches([], "mean", 1, 0)])
    outcome: Outcome = {
        "original": original["held_out"],
        "chance": subject.chance,
        "samples": len(subject.held_out.samples),
        "source": subject.source,
        "weights": sum(layer.count for layer in subject.layers),
        "weights of": {
            which: sum(each.count for each in subject.select(which)) for which in subject.selections
        },
        "layers of": {which: len(subject.select(which)) for which in subject.selections},
        "file bytes": len(subject.model),
        "reported": vars(reported) if reported else None,
        "found": {},
    }
    drops = {"5 points": ALLOWED}
    if reported:
        drops["the report's drop"] = reported.original - reported.centralized
        size = reported.batch_size or USUAL_SIZE
    else:
        size = USUAL_SIZE
    for which in subject.selections:
        for restore in centralizing.RESTORATIONS:
            outcome["found"][f"{which}, {restore}"] = {
                name: _threshold(lab, subject, which, restore, original["searching"] - drop)
                for name, drop in drops.items()
            }
    numbers = [layer.number for layer in subject.select(subject.selections[0])]
    (there,) = lab.map("measuring", measure, subject, [batches(numbers, "uniform", size, lab.seed)])
    return outcome | {"at the report's size": there | {"size": size}}


def _threshold(lab: Lab, subject: Subject, which: str, restore: str, least: float) -> Result | None:
    """The trial at the largest size found that keeps `least` percent on the search samples, if one does."""
    layers = subject.select(which)
    numbers, largest = [layer.number for layer in layers], max(layer.count for layer in layers)

    def tried(*some: int) -> list[Result]:
        settings = [batches(numbers, restore, size, lab.seed) for size in some]
        return lab.map(f"searching the batch size, {which}, {restore}", measure, subject, settings)

    tried(*sizes(largest))  # all at once, where the search would ask for one by one
    found = search.threshold(largest, lambda size: tried(size)[0]["searching"] >= least - 1e-9)
    return None if found is None else tried(found)[0] | {"size": found}


def figures(outcomes: Outcomes) -> list[Figure]:
    return [_scatter(outcomes), _bars(outcomes)]


def first(outcome: Outcome, drop: str = "5 points") -> Result | None:
    """The threshold of the report's method proper: the dense layers, restored uniform."""
    found: dict[str, Result | None] = next(iter(outcome["found"].values()))
    return found.get(drop)


def _scatter(outcomes: Outcomes) -> Figure:
    def draw(canvas: Canvas) -> None:
        left, right = canvas.subplots(1, 2)
        for axes in (left, right):
            axes.plot([0, 100], [0, 100], color=plots.PALE)
        for label, colour, results in (
            (
                "at the report's batch size",
                plots.ORANGE,
                [o["at the report's size"] for o in outcomes.values()],
            ),
            ("at the threshold", plots.BLUE, [first(outcome) for outcome in outcomes.values()]),
        ):
            found = [(o, each) for o, each in zip(outcomes.values(), results, strict=True) if each]
            before, after = [o["original"] for o, _ in found], [each["held_out"] for _, each in found]
            left.scatter(before, after, 24, colour, alpha=0.8, label=label)
            lost, saved = [_lost(*each) for each in found], [_saved(*each) for each in found]
            right.scatter(lost, saved, 24, colour, alpha=0.8)
        reported = [outcome["reported"] for outcome in outcomes.values() if outcome["reported"]]
        before, after = ([each[when] for each in reported] for when in ("original", "centralized"))
        left.scatter(before, after, 24, plots.GREEN, alpha=0.8, label="in the report")
        left.set(xlabel="accuracy before, %", ylabel="accuracy after, %", xlim=(0, 102), ylim=(0, 102))
        right.set(
            xlabel="points lost", ylabel="saved of the weights' memory, %", xlim=(-3, 102), ylim=(-3, 102)
        )
        plots.legend(canvas, left)

    caption = (
        "Accuracy before and after centralization (dense layers, uniform), and memory saved against points "
        "lost. The lines are y = x: left, nothing is lost on it; right, a percent of memory costs a point."
    )
    return Figure("threshold-scatter", caption, (8.2, 3.9), draw)


def _lost(outcome: Outcome, result: Result) -> float:
    return float(outcome["original"] - result["held_out"])


def _saved(outcome: Outcome, result: Result) -> float:
    """Percent of the memory of all weights."""
    return float(100 * result["saved"] / (4 * outcome["weights"]))


def _bars(outcomes: Outcomes) -> Figure:
    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        thresholds = [first(outcome) for outcome in outcomes.values()]
        series = {
            "original": ([outcome["original"] for outcome in outcomes.values()], plots.PALE),
            "at the threshold": ([each["held_out"] if each else 0 for each in thresholds], plots.BLUE),
            "at the report's batch size": (
                [outcome["at the report's size"]["held_out"] for outcome in outcomes.values()],
                plots.ORANGE,
            ),
        }
        for place, (label, (values, colour)) in enumerate(series.items()):
            axes.bar(
                [i + 0.27 * (place - 1) for i in range(len(values))], values, 0.25, color=colour, label=label
            )
        for i, each in enumerate(thresholds):
            axes.text(
                i,
                each["held_out"] + 1 if each else 1,
                f"{each['size']:,}" if each else "none",
                ha="center",
                size=6.5,
            )
        names = [plots.title(model).replace(", ", ",\n") for model in outcomes]
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
        axes.set(ylabel="accuracy, %", ylim=(0, 108))
        axes.grid(visible=False, axis="x")
        plots.legend(canvas, axes)

    caption = "Accuracy before and after; the numbers are threshold batch sizes."
    return Figure("threshold-bars", caption, (8.2, 3.6), draw)


def tables(outcomes: Outcomes) -> list[Table]:
    return [_models(outcomes), _found(outcomes)]


def _models(outcomes: Outcomes) -> Table:
    rows = []
    for model, outcome in outcomes.items():
        reported, found = outcome["reported"], first(outcome)
        there = outcome["at the report's size"]
        rows.append(
            [
                plots.title(model),
                f"{outcome['weights']:,}",
                f"{next(iter(outcome['weights of'].values())):,} {next(iter(outcome['weights of']))}",
                _report(reported),
                f"{outcome['original']:.2f}",
                f"{found['held_out']:.2f} ({found['size']:,})" if found else "at no size",
                f"{found['saved'] / 1000:+,.1f}" if found else "",
                f"{there['held_out']:.2f} ({there['size']:,})",
            ]
        )
    columns = (
        "model",
        "weights",
        "centralized here",
        "report: before → after (batch size)",
        "ours before",
        "at the threshold (batch size)",
        "saved, KB",
        "at the report's batch size",
    )
    return Table(
        "The report's models: accuracy in percent; dense layers, uniform restoration.", columns, rows
    )


def _report(reported: Outcome | None) -> str:
    if not reported:
        return ""
    size = f" ({reported['batch_size']:,})" if reported["batch_size"] else ""
    return f"{reported['original']:.2f} → {reported['centralized']:.2f}{size}"


def _found(outcomes: Outcomes) -> Table:
    rows = []
    for model, outcome in outcomes.items():
        for way, drops in outcome["found"].items():
            cells: list[object] = [plots.title(model), way]
            for drop in ("5 points", "the report's drop"):
                found = drops.get(drop)
                if drop not in drops:
                    cells += ["", "", ""]
                elif found is None:
                    cells += ["none", "", ""]
                else:
                    lost = outcome["original"] - found["held_out"]
                    cells += [f"{found['size']:,}", f"{lost:+.2f}", f"{found['saved'] / 1000:+,.1f}"]
            rows.append(cells)
    columns = (
        "model",
        "layers, restoration",
        "within 5 points",
        "lost",
        "saved, KB",
        "within the report's drop",
        "lost",
        "saved, KB",
    )
    return Table("Threshold batch sizes of every way; lost: points on the samples that judge.", columns, rows)


def finding(outcomes: Outcomes) -> str:
    found = {model: first(outcome) for model, outcome in outcomes.items()}
    useful = {model: each for model, each in found.items() if each and each["saved"] > 0}
    text = (
        f"{len(outcomes) - len(useful)} of {len(outcomes)} models bear no batch of even 2 weights in their "
        "dense layers; in batches of 1 nothing is saved, as a batch costs the 4 bytes of a weight. "
    )
    if useful:
        shares = [_saved(outcomes[model], each) for model, each in useful.items()]
        names = ", ".join(f"{plots.title(model)} ({each['size']:,})" for model, each in useful.items())
        text += f"{names}: there {min(shares):.1f} to {max(shares):.1f} % of all weights' memory is saved. "
    return text + (
        "Restored as `mean`, 2 bytes a batch, batches of 1 are weights of 16 bits: half is saved and "
        "nothing lost, which is rounding, not centralization."
    )
