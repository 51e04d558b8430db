"""Metrics against their definitions, and intervals that say how far a drop can be trusted."""

import numpy as np
import pytest
from regrow.errors import InputError
from regrow_host import metrics

RANDOM = np.random.default_rng(3)


def test_auc_is_the_share_of_pairs_in_order_with_ties_as_half() -> None:
    for _ in range(20):
        y = RANDOM.integers(0, 2, 60)
        values = RANDOM.integers(0, 9, 60) / 3
        anomalies, normal = values[y == 1][:, None], values[y == 0]
        pairs = (anomalies > normal) + (anomalies == normal) / 2
        assert metrics.auc(values, y) == pytest.approx(pairs.mean())


def test_top_k_counts_ties_as_argmax_does() -> None:
    y = RANDOM.integers(0, 10, 400)
    outputs = RANDOM.integers(0, 4, (400, 10)).astype(float)
    x = np.zeros((400, 1))
    assert np.array_equal(metrics.scores("top1", x, outputs, y), outputs.argmax(axis=1) == y)
    first_five = np.argsort(-outputs, axis=1, kind="stable")[:, :5]
    assert np.array_equal(metrics.scores("top5", x, outputs, y), (first_five == y[:, None]).any(axis=1))


def test_a_clips_score_is_the_mean_over_its_windows() -> None:
    x = RANDOM.normal(size=(6, 4))
    outputs = RANDOM.normal(size=(6, 4))
    by_clip = np.square(x - outputs).reshape(2, -1).mean(axis=1)
    assert metrics.scores("auc", x, outputs, np.array([0, 1])) == pytest.approx(by_clip)


@pytest.mark.parametrize(
    ("inputs", "outputs", "y", "expected"),
    [
        ((1, 8, 8, 1), (1, 10), np.array([3, 9]), "top1"),
        ((1, 640), (1, 640), np.array([0, 1]), "auc"),
        ((1, 1), (1, 1), np.array([0.5, 0.7]), "mae"),
        ((1, 20), (1, 1), np.array([[0], [1]]), "top1"),  # one output: two classes
        ((1, 20), (1, 1), np.array([0.0, 1.0]), "top1"),
        ((1, 20), (1, 1), np.array([17, 35]), "mae"),  # integers that are no classes
        ((1, 8), (1, 3), np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]), "top1"),  # one-hot
        ((1, 8), (1, 3), np.array([0.0, 2.0]), "top1"),
        ((1, 8), (1, 3), np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]), "mae"),
        ((1, 10), (1, 10), np.array([0, 9]), "top1"),  # takes and gives ten, and is no autoencoder
        ((1, 4, 4, 1), (1, 4, 4, 1), np.zeros((2, 4, 4, 1), np.uint8), "mae"),
    ],
)
def test_auto(inputs: tuple[int, ...], outputs: tuple[int, ...], y: np.ndarray, expected: str) -> None:
    assert metrics.choose("auto", inputs, outputs, y) == expected


@pytest.mark.parametrize(
    ("metric", "y", "says"),
    [
        ("auc", None, "no labels"),
        ("auc", np.array([0, 1]), "output has the shape"),
        ("top1", np.array([0.5, 1.0]), "integer class"),
        ("top1", np.array([3, 10]), r"3\.\.10"),
        ("top1", np.array([-1, 2]), r"-1\.\.2"),
        ("top1", np.array([[0.0, 1.0, 1.0]]), "integer class"),
        ("mae", np.zeros((2, 3)), "10 values"),
    ],
)
def test_labels_that_do_not_serve(metric: str, y: np.ndarray | None, says: str) -> None:
    with pytest.raises(InputError, match=says):
        metrics.choose(metric, (1, 8), (1, 10), y)


@pytest.mark.parametrize("outputs", [[0.1, 0.5, 0.51, 0.9], [-2.2, 0.0, 0.04, 2.2]])
def test_one_output_is_the_probability_or_the_logit_of_the_second_class(outputs: list[float]) -> None:
    given, y = np.array(outputs)[:, None], np.array([0, 0, 1, 1])
    assert metrics.scores("top1", given, given, y).all()
    assert metrics.probabilities(given) == pytest.approx(
        np.array([[0.9, 0.1], [0.5, 0.5], [0.49, 0.51], [0.1, 0.9]]), abs=0.01
    )
    assert metrics.regrets(1, given, given[::-1]).mean() == pytest.approx(40.5, abs=0.5)


def test_drop_is_positive_when_the_pack_is_worse() -> None:
    y = np.array([0, 1] * 50)
    right, worse = np.ones(100), np.r_[np.zeros(10), np.ones(90)]
    assert metrics.compare("top1", right, worse, y).drop == pytest.approx(10)
    assert metrics.compare("top1", worse, right, y).drop == pytest.approx(-10)
    good, bad = y + RANDOM.normal(size=100) * 0.1, RANDOM.normal(size=100)
    assert metrics.compare("auc", good, bad, y).drop > 0
    spread = np.array([0.0, 1.0])
    assert metrics.compare("mae", np.array([0.0, 0.1]), np.array([0.1, 0.2]), spread).drop == pytest.approx(
        20
    )


def test_the_interval_covers_the_true_drop() -> None:
    covered = 0
    for _ in range(200):
        source = (RANDOM.random(300) < 0.9).astype(float)
        pack = np.where(RANDOM.random(300) < 0.05, 0.0, source)
        result = metrics.compare("top1", source, pack, np.zeros(300))
        covered += result.low <= 100 * 0.9 * 0.05 <= result.high
    assert covered >= 180


def test_no_difference_on_few_samples_proves_little() -> None:
    same = metrics.compare("top1", np.ones(20), np.ones(20), np.zeros(20))
    assert same.drop == 0
    assert same.high > 5


def test_an_interval_is_wider_where_it_holds_for_more_packs() -> None:
    hits, fewer = np.ones(300), np.r_[np.zeros(9), np.ones(291)]
    noise = RANDOM.normal(size=300)
    for metric, source, pack in (
        ("top1", hits, fewer),
        ("auc", noise, noise + 0.3 * RANDOM.normal(size=300)),
    ):
        y = np.arange(300) % 2
        one, three = (metrics.compare(metric, source, pack, y, looks) for looks in (1, 3))
        assert three.low < one.low < one.high < three.high
        assert three.drop == one.drop


@pytest.mark.parametrize("sureness", [0.05, 1.0, 3.0])
def test_what_is_expected_comes_true_however_sure_the_source_is(sureness: float) -> None:
    """Labels are drawn by the softmax of logits, which the source gives `sureness` times as large."""
    logits = 1.5 * RANDOM.normal(size=(20_000, 5))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = (p.cumsum(axis=1) < RANDOM.random((20_000, 1))).sum(axis=1).clip(max=4)
    pack = logits + 0.5 * RANDOM.normal(size=logits.shape)
    by = metrics.temperature(sureness * logits[:400], y[:400])
    expected = metrics.regrets(1, sureness * logits, pack, by).mean()
    hits = 100 * ((logits.argmax(axis=1) == y).mean() - (pack.argmax(axis=1) == y).mean())
    assert expected == pytest.approx(hits, rel=0.25)
    assert sureness != 1.0 or by == 1.0


def test_a_count_clearly_worse_than_what_is_expected_is_believed() -> None:
    figures = {"metric": "top1", "samples": 1000, "source": 0.9, "pack": 0.88, "drop": 2.0, "high": 3.0}
    assert metrics.Comparison(**figures, low=-0.1, expected=0.4).likely == 0.4
    assert metrics.Comparison(**figures, low=1.2, expected=0.4).likely == 1.2


def smooth_auc(scores: np.ndarray, y: np.ndarray) -> float:
    return float(metrics.placements(scores, y, metrics.BANDWIDTH)[0].mean())


def test_a_smooth_auc_is_nearly_the_auc_and_its_drop_varies_less() -> None:
    counted, smooth = [], []
    for _ in range(100):
        y = np.arange(80) % 2
        scores = np.exp(RANDOM.normal(size=80) + 1.5 * y)
        other = scores * np.exp(RANDOM.normal(size=80) * 0.05)
        assert smooth_auc(scores, y) == pytest.approx(metrics.auc(scores, y), abs=0.03)
        counted.append(metrics.auc(scores, y) - metrics.auc(other, y))
        smooth.append(smooth_auc(scores, y) - smooth_auc(other, y))
    assert np.std(smooth) < 0.7 * np.std(counted)
    assert smooth_auc(np.zeros(4), np.array([0, 1, 0, 1])) == pytest.approx(0.5)


def test_the_count_weighs_more_the_more_it_tells() -> None:
    """Regrets say 1 point, hits 3: of few samples the count tells little, of many it decides."""
    found = []
    for count in (100, 1000, 10_000, 1_000_000):
        regrets = np.where(np.arange(count) % 100 == 0, 100.0, 0.0)
        source = np.ones(count)
        pack = np.where(np.arange(count) % 100 < 3, 0.0, 1.0)
        found.append(metrics.expected_hits(regrets, source, pack))
    assert found == sorted(found)
    assert 1 < found[0] < 2
    assert found[-1] == pytest.approx(3, abs=0.01)
