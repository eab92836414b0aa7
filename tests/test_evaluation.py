"""Every figure against scikit-learn or brute force, its floor against chance, its oracle against the truth."""

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics

from fraud import evaluation
from fraud.errors import DataError

ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.01, 0.2, 0.5, 0.999, 1.0]) | st.floats(0, 1), st.booleans()),
    min_size=2,
    max_size=60,
)


def columns(rows: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score for score, _ in rows]), np.array([fraud for _, fraud in rows])


def judged(scores: np.ndarray, frauds: np.ndarray, threshold: float) -> evaluation.Judgement:
    days = np.arange(len(scores)) // 8
    cards = np.arange(len(scores)) % 5
    return evaluation.judge(scores, frauds, threshold, days, cards, np.ones(len(scores), bool))


@settings(deadline=None, max_examples=50)
@given(ROWS, st.floats(0, 1))
def test_a_judgement_equals_scikit_learns(rows: list[tuple[float, bool]], threshold: float) -> None:
    scores, frauds = columns(rows)
    assume(0 < frauds.sum() < len(frauds))
    found = judged(scores, frauds, threshold)
    flagged = scores >= threshold
    expected = {
        "average_precision": metrics.average_precision_score(frauds, scores),
        "roc_auc": metrics.roc_auc_score(frauds, scores),
        "f2": metrics.fbeta_score(frauds, flagged, beta=2, zero_division=0.0),
        "precision": metrics.precision_score(frauds, flagged, zero_division=0.0),
        "recall": metrics.recall_score(frauds, flagged),
        "brier": np.mean((scores - frauds) ** 2),
    }
    for name, value in expected.items():
        assert found.values[name] == pytest.approx(value, abs=1e-12), name
    (tn, fp), (fn, tp) = metrics.confusion_matrix(frauds, flagged, labels=[False, True])
    assert found.confusion == {"tp": tp, "fp": fp, "fn": fn, "tn": tn}
    assert found.values.keys() == found.floors.keys() == found.oracles.keys()


def test_the_truth_as_a_score_reaches_every_oracle() -> None:
    frauds = np.arange(40) % 7 == 0
    found = judged(frauds.astype(float), frauds, 0.5)
    for name, value in found.values.items():
        assert value == pytest.approx(found.oracles[name]), name


def test_random_scores_reach_the_floors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "DRAWS", 1)
    rng = np.random.default_rng(5)
    frauds = np.arange(400) % 20 == 0
    drawn = [judged(rng.random(400), frauds, 0.7) for _ in range(100)]
    for name in ("average_precision", "roc_auc", "precision", "recall", "f2", "ece"):
        mean = np.mean([found.values[name] for found in drawn])
        floor = np.mean([found.floors[name] for found in drawn])
        assert mean == pytest.approx(floor, rel=0.1), name
    share = frauds.mean()
    base = judged(np.full(400, share), frauds, 0.7)
    assert base.values["brier"] == pytest.approx(base.floors["brier"])


def test_random_cards_reach_the_floor_of_card_precision() -> None:
    rng = np.random.default_rng(6)
    days, cards, frauds = rng.integers(0, 5, 300), rng.integers(0, 60, 300), rng.random(300) < 0.1
    drawn = [evaluation.card_precision(days, cards, rng.random(300), frauds, 10) for _ in range(100)]
    floor = evaluation.card_precision_quality(days, cards, rng.random(300), frauds, 10)["floor"]
    assert np.mean(drawn) == pytest.approx(floor, rel=0.1)


@pytest.mark.parametrize(("rows", "frauds"), [(1, 1), (2, 1), (5, 2), (6, 3), (6, 6)])
def test_the_floor_of_average_precision_is_the_mean_over_all_orders(rows: int, frauds: int) -> None:
    scores = np.arange(rows)[::-1]
    every = [
        metrics.average_precision_score(np.isin(np.arange(rows), chosen), scores)
        for chosen in itertools.combinations(range(rows), frauds)
    ]
    assert evaluation.random_average_precision(rows, frauds) == pytest.approx(np.mean(every))


def test_ranking_quality_is_what_a_report_shows() -> None:
    scores, frauds = np.array([0.9, 0.1, 0.8]), np.array([True, False, False])
    assert evaluation.ranking_quality(scores, frauds) == {"value": 1.0, "floor": pytest.approx(11 / 18), "oracle": 1.0}
    assert set(evaluation.ranking_quality(scores, np.zeros(3, bool)).values()) == {0.0}
    assert set(evaluation.ranking_quality(np.empty(0), np.empty(0, bool)).values()) == {0.0}


def test_one_class_alone_is_not_judged() -> None:
    for frauds in (np.zeros(4, bool), np.ones(4, bool)):
        with pytest.raises(DataError, match="of 4 rows are frauds"):
            judged(np.linspace(0, 1, 4), frauds, 0.5)


@settings(deadline=None)
@given(ROWS, st.integers(1, 20))
def test_the_calibration_error_is_the_weighted_gap_of_bins(rows: list[tuple[float, bool]], bins: int) -> None:
    scores, frauds = columns(rows)
    gap = 0.0
    for b in range(bins):
        inside = [(s, f) for s, f in zip(scores, frauds, strict=True) if min(int(s * bins), bins - 1) == b]
        if inside:
            gap += len(inside) * abs(np.mean([s for s, _ in inside]) - np.mean([f for _, f in inside]))
    assert evaluation.calibration_error(scores, frauds, bins) == pytest.approx(gap / len(rows), abs=1e-9)


CARD_ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 8), st.sampled_from([0.1, 0.2, 0.3]) | st.floats(0, 1), st.booleans()),
    min_size=1,
    max_size=40,
)


@settings(deadline=None, max_examples=40)
@given(CARD_ROWS, st.integers(1, 6))
def test_card_precision_equals_the_books_words(rows: list[tuple[int, int, float, bool]], top: int) -> None:
    table = pl.DataFrame(rows, schema=["day", "card", "score", "fraud"], orient="row")
    found: list[int] = []
    shares = []
    for day in sorted(set(table["day"])):
        ranked = (
            table.filter((pl.col("day") == day) & ~pl.col("card").is_in(found))
            .group_by("card")
            .agg(pl.col("score").max(), pl.col("fraud").any())
            .sort([-pl.col("score"), pl.col("card")])
            .head(top)
        )
        hits = ranked.filter("fraud")["card"].to_list()
        found += hits
        shares.append(len(hits) / top)
    day, card, score, fraud = (np.array(column) for column in zip(*rows, strict=True))
    assert evaluation.card_precision(day, card, score, fraud, top) == pytest.approx(np.mean(shares))


@settings(deadline=None)
@given(CARD_ROWS)
def test_a_card_leaves_when_its_fraud_is_known(rows: list[tuple[int, int, float, bool]]) -> None:
    day, card, _, fraud = (np.array(column) for column in zip(*rows, strict=True))
    expected = [
        not any(other == c and f and d + 2 + 1 <= today for d, other, f in zip(day, card, fraud, strict=True))
        for today, c in zip(day, card, strict=True)
    ]
    assert evaluation.not_yet_known(day, card, fraud, delay=2).tolist() == expected
