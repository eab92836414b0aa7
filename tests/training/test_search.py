"""The search: time-ordered, seeded, told; a candidate that fails is out and nothing else."""

from typing import Any

import numpy as np
import pytest
import xgboost

from fraud.errors import ModelError
from fraud.training import LabelledRows, train
from fraud.training.folds import FOLDS, sample
from fraud.training.search import Search, search
from tests.training.synthetic import search_few_trees, synthetic_rows


@pytest.fixture(scope="module")
def rows() -> LabelledRows:
    return synthetic_rows()


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    search_few_trees(monkeypatch, 5, 10)


def searched(rows: LabelledRows, say: Any = lambda _: None, threads: int = 1) -> Search:
    return search(rows.matrix, rows.times, rows.frauds, 4, seed=3, threads=threads, rows=3_000, say=say)


def test_the_same_rows_and_seed_find_the_same_whatever_the_threads(rows: LabelledRows) -> None:
    one, two = searched(rows), searched(rows, threads=2)
    assert [each.parameters for each in one.candidates] == [each.parameters for each in two.candidates]
    assert [each.scores for each in one.candidates] == [each.scores for each in two.candidates]
    assert one.best == max(one.candidates, key=lambda each: each.mean).parameters
    assert (one.rows, one.of, one.frauds) == (3_000, 6_000, int(rows.frauds.sum()))


def test_each_candidate_is_told(rows: LabelledRows) -> None:
    said: list[str] = []
    searched(rows, said.append)
    assert [line.split(":")[0] for line in said if line.startswith("candidate")] == [
        f"candidate {i} of 4" for i in (1, 2, 3, 4)
    ]


def test_rows_are_thinned_evenly_in_time_and_keep_every_fraud(rows: LabelledRows) -> None:
    mixed = np.random.default_rng(0).permutation(len(rows.times))
    times, frauds = rows.times[mixed], rows.frauds[mixed]
    chosen = sample(times, frauds, 2_000, seed=1)
    assert len(chosen) == len(set(chosen.tolist())) == 2_000
    assert (np.diff(times[chosen]) >= 0).all()
    assert frauds[chosen].sum() == frauds.sum()
    middle = np.searchsorted(times[chosen], np.median(times))
    assert 900 < middle < 1_100
    assert len(sample(times, frauds, 10_000, seed=1)) == 6_000


@pytest.mark.parametrize("failure", [MemoryError("no memory"), xgboost.core.XGBoostError("bad allocation")])
def test_a_candidate_that_fails_is_out_and_the_others_go_on(
    rows: LabelledRows, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    fits = []
    fit = xgboost.XGBClassifier.fit

    def sometimes(self: Any, *args: Any, **named: Any) -> Any:
        fits.append(1)
        if len(fits) == FOLDS + 1:  # the second candidate's first fold
            raise failure
        return fit(self, *args, **named)

    monkeypatch.setattr(xgboost.XGBClassifier, "fit", sometimes)
    said: list[str] = []
    found = searched(rows, said.append)
    (told,) = (line for line in said if "failed" in line)
    assert told.startswith("1 of 4 candidates failed and are out: ")
    assert told.endswith(str(failure))
    assert [type(failure).__name__ in reason for reason in found.failures] == [True]
    assert [np.isnan(each.mean) for each in found.candidates] == [False, True, False, False]
    assert found.to_dict()["candidates"][-1]["average_precision"] is None


def test_a_search_in_which_everything_fails_says_why(rows: LabelledRows, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError("no memory left")

    monkeypatch.setattr(xgboost.XGBClassifier, "fit", fail)
    with pytest.raises(ModelError, match="none of 4 candidates could be fitted: MemoryError: no memory left"):
        searched(rows)


def test_a_training_takes_what_the_search_found_and_gives_the_same_bytes_again(rows: LabelledRows) -> None:
    one, two = (train(rows, seed=5, threads=threads, candidates=3) for threads in (1, 2))
    assert one.search is not None
    assert one.bundle.params["trees"] == one.search.best.trees
    assert one.bundle.to_bytes() == two.bundle.to_bytes()
    assert len(one.report()["search"]["candidates"]) == 3
