"""The report's numbers beside ours, and where the report cannot be right."""

from collections.abc import Mapping

from regrow_host.study import plots, threshold
from regrow_host.study.experiment import Outcome, Outcomes, Table

TITLE = "The report beside this study"
METHOD = (
    "The report gives accuracy before and after centralization and a threshold batch size. Ours is the "
    "largest batch size found by search that keeps within the report's own loss, dense layers, `uniform`. "
    "Data that is not public any more, or not fetched here, is stood in for: see the source of each model's "
    "samples above."
)


def tables(outcomes: Mapping[str, Outcomes]) -> list[Table]:
    found = outcomes["threshold"]
    return [_accuracies(found), _claims(found, outcomes.get("centralization", {}))]


def _accuracies(found: Outcomes) -> Table:
    rows = []
    for model, outcome in found.items():
        reported = outcome["reported"]
        if not reported:
            continue
        ours = threshold.first(outcome, "the report's drop")
        there = outcome["at the report's size"]
        rows.append(
            [
                plots.title(model),
                f"{reported['original']:.2f}",
                f"{outcome['original']:.2f}",
                f"{reported['original'] - reported['centralized']:+.2f}",
                f"{reported['batch_size']:,}" if reported["batch_size"] else "",
                f"{ours['size']:,}" if ours else "none",
                f"{outcome['original'] - ours['held_out']:+.2f}" if ours else "",
                f"{ours['saved'] / 1000:+,.1f}" if ours else "",
                f"{outcome['original'] - there['held_out']:+.2f} ({there['size']:,})",
            ]
        )
    columns = (
        "model",
        "before, report",
        "before, ours",
        "lost, report",
        "batch size, report",
        "batch size, ours",
        "lost, ours",
        "saved, KB",
        "lost at the report's batch size, ours",
    )
    return Table("Accuracy in percent, losses in points, on the samples that judge.", columns, rows)


def _claims(found: Outcomes, centralized: Outcomes) -> Table:
    rows = [
        [
            "40 MB, 282 MB and 87 MB of memory saved",
            _largest(found),
            "Impossible: 2 to 2.5 million float32 parameters are 8 to 10 MB in all. Probably KB: a dense "
            "layer of 1,024 x 10 weights, ShuffleNetV2's only one, takes 40.96 KB; or the memory of the "
            "training process was compared, which no device has.",
        ],
        [
            "thresholds of 5,000 in networks with one small dense layer",
            _coarse(found),
            "A batch of 5,000 leaves such a layer a handful of means; see the loss at the report's batch "
            "size. A loss of 1 or 2 points there needs layers that hardly matter.",
        ],
        [
            "dense layers are centralized, in SqueezeNet too",
            _layers(found, "squeezenet-letters"),
            "SqueezeNet proper has no dense layer; the 2.5 million parameters need a dense head, studied "
            "here apart from its convolutions.",
        ],
        [
            "a batch costs a mean and a deviation, batches of any size save memory",
            "a batch costs 4 bytes (two of 16 bits), with float32 statistics 8",
            "Batches of 1 take as much as the weights or twice that, and batches of 2 save half at most.",
        ],
    ]
    if deep := _deep(centralized):
        rows.insert(
            3,
            [
                "a 17-layer network keeps 92.19 of 98.18 % with its last layer centralized, another falls to "
                "30 %",
                deep,
                "One mean and one deviation for a whole last layer leave nothing that tells classes apart: "
                "what is left is chance, so 92 % were batches or another layer. A hidden layer survives "
                "where a path leads around it.",
            ],
        )
    columns = "the report says", "ours", "what is right"
    return Table("Claims that do not hold as they stand.", columns, rows)


def _largest(found: Outcomes) -> str:
    weights = {model: outcome["weights"] for model, outcome in found.items()}
    model = max(weights, key=lambda each: weights[each])
    return f"the largest model here, {plots.title(model)}, has {4 * weights[model] / 1e6:.1f} MB of weights"


def _coarse(found: Outcomes) -> str:
    texts = []
    for model, outcome in found.items():
        if outcome["reported"] and outcome["reported"]["batch_size"] == 5000:
            dense = outcome["weights of"].get("dense", 0)
            lost = outcome["original"] - outcome["at the report's size"]["held_out"]
            texts.append(f"{plots.title(model)}: {dense:,} dense weights, {lost:+.2f} points lost")
    return "; ".join(texts) or "not in this run"


def _layers(found: Outcomes, model: str) -> str:
    if model not in found:
        return "not in this run"
    weights: Outcome = found[model]["weights of"]
    return (
        f"{weights.get('dense', 0):,} weights in the dense head, {weights.get('conv', 0):,} in convolutions"
    )


def _deep(centralized: Outcomes) -> str:
    texts = []
    for model in ("ann-skip", "ann-plain"):
        if model in centralized:
            outcome = centralized[model]
            best = max(each["uniform"] for each in outcome["layers"])
            last = outcome["layers"][-1]["uniform"]
            texts.append(
                f"{plots.title(model)}: {outcome['original']:.2f} to {last:.2f} at the last layer, "
                f"{best:.2f} at the one that bears it best"
            )
    return "; ".join(texts)
