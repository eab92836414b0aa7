"""Training sets that are odd: a week without fraud, one class, a column of nothing but missing values."""

from dataclasses import replace

import numpy as np
import pytest

from fraud.errors import ModelError
from fraud.training import LabelledRows, Parameters, train
from fraud.training.folds import folds
from tests.training.synthetic import BEGIN, DAY, search_few_trees, synthetic_rows

SMALL = Parameters(trees=20, depth=3)
SEARCHED = (0, 2)  # candidates


@pytest.fixture(scope="module")
def rows() -> LabelledRows:
    return synthetic_rows()


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    search_few_trees(monkeypatch, 10, 20)


def without_fraud(rows: LabelledRows, begin: int, end: int) -> LabelledRows:
    """Return the rows with every fraud of the days from `begin` to `end` made legitimate."""
    day = (rows.times - BEGIN) // DAY
    return replace(rows, frauds=rows.frauds & ~((day >= begin) & (day < end)))


@pytest.mark.parametrize("candidates", SEARCHED)
@pytest.mark.parametrize("days", [(0, 7), (8, 15), (33, 38)], ids=["first", "middle", "judged"])
def test_a_week_without_fraud_is_no_obstacle(rows: LabelledRows, days: tuple[int, int], candidates: int) -> None:
    trained = train(without_fraud(rows, *days), SMALL, seed=5, threads=1, min_frauds=10, candidates=candidates)
    values, floors = trained.judgement.values, trained.judgement.floors
    assert all(np.isfinite(value) for value in values.values())
    assert values["average_precision"] > 5 * floors["average_precision"]


@pytest.mark.parametrize("candidates", SEARCHED)
@pytest.mark.parametrize("fraud", [False, True])
def test_one_class_is_refused_with_what_to_do(rows: LabelledRows, fraud: bool, candidates: int) -> None:
    alike = replace(rows, frauds=np.full(len(rows.frauds), fraud))
    with pytest.raises(ModelError, match=r"part `fit` .* frauds among .*: give more days"):
        train(alike, SMALL, candidates=candidates)


@pytest.mark.parametrize("candidates", SEARCHED)
def test_a_column_of_nothing_but_missing_values_is_no_obstacle(rows: LabelledRows, candidates: int) -> None:
    empty = rows.matrix.copy()
    empty[:, 3] = np.nan
    resampled = replace(SMALL, smote_ratio=0.3)
    trained = train(replace(rows, matrix=empty), resampled, seed=5, threads=1, candidates=candidates)
    assert trained.judgement.values["average_precision"] > 5 * trained.judgement.floors["average_precision"]
    assert list(trained.bundle.histograms.values())[3]["missing"] == len(trained.parts["fit"].index)


def test_folds_that_can_judge_nobody_are_left_out() -> None:
    frauds = np.zeros(400, np.int64)
    frauds[[10, 20, 150, 350]] = 1  # four blocks of a hundred: two, one, none, one
    assert [(len(fit), judged[0], judged[-1]) for fit, judged in folds(frauds)] == [(100, 100, 199), (300, 300, 399)]
    frauds[[10, 20, 150]] = 0
    with pytest.raises(ModelError, match=r"none of 3 folds .* 1 frauds of 400 rows: .*--candidates 0"):
        folds(frauds)


def test_a_search_whose_first_folds_have_no_frauds_says_so(rows: LabelledRows) -> None:
    said: list[str] = []
    late = without_fraud(rows, 0, 11)  # `fit` has 22 days
    trained = train(late, seed=5, threads=1, min_frauds=10, candidates=2, say=said.append)
    assert trained.search is not None
    assert trained.search.to_dict()["folds"] == 1
    assert {len(each.scores) for each in trained.search.candidates} == {1}
    assert "2 of 3 folds are out: too few frauds in what they fit or judge" in said
