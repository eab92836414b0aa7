"""The finals: on all rows, in time order, the default among them; who is better is taken, and nobody for less."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fraud.booster import margins
from fraud.cli.submission import submission
from fraud.errors import ModelError
from fraud.training import LabelledRows, Parameters, train
from fraud.training.boosting import fit_booster
from fraud.training.finals import finals
from fraud.training.search import Candidate, Search
from tests.training.synthetic import search_few_trees, synthetic_rows

GOOD, POOR, POORER = Parameters(trees=40), Parameters(trees=1, depth=1), Parameters(trees=2, depth=1)


@pytest.fixture(scope="module")
def rows() -> LabelledRows:
    return synthetic_rows()


def searched(*ranked: Parameters) -> Search:
    """Return a search that found these, the best first."""
    scores = np.linspace(0.9, 0.1, len(ranked))
    tried = tuple(Candidate(each, (float(score),) * 3, 0.1) for each, score in zip(ranked, scores, strict=True))
    return Search(tried, ranked[0], rows=10, frauds=1, of=6_000)


def judged(found: Search, default: Parameters, rows: LabelledRows, say: Any = lambda _: None) -> Search:
    return finals(found, default, rows.matrix, rows.times, rows.frauds, seed=3, threads=1, say=say)


def test_the_default_is_taken_where_the_candidates_are_worse(rows: LabelledRows) -> None:
    said: list[str] = []
    found = judged(searched(POOR, POORER), GOOD, rows, said.append)
    assert found.best == GOOD
    assert [each.parameters for each in found.finals] == [GOOD, POOR, POORER]
    assert said[0] == "comparing the default with the best 2 candidates, on all 6,000 rows"
    assert said[1] == f"finalist 1 of 3 (the default): average precision {found.finals[0].mean:.4f}"
    assert len(said) == 4


def test_a_candidate_is_taken_where_it_is_better_though_another_led_the_search(rows: LabelledRows) -> None:
    assert judged(searched(POORER, GOOD), POOR, rows).best == GOOD


def test_of_equals_the_default_is_taken(rows: LabelledRows) -> None:
    same = Parameters(trees=40, smote_ratio=1e-9)  # fewer frauds than there are: nothing is drawn
    found = judged(searched(same), GOOD, rows)
    assert found.finals[0].scores == found.finals[1].scores
    assert found.best == GOOD


def test_only_the_best_two_candidates_that_could_be_fitted_are_compared(rows: LabelledRows) -> None:
    failed = Candidate(Parameters(trees=3), (float("nan"), 0.9, 0.9), 0.1)
    found = searched(POOR, POORER, Parameters(trees=4))
    assert [each.parameters for each in judged(found, GOOD, rows).finals] == [GOOD, POOR, POORER]
    one = Search((failed, *searched(POOR).candidates), POOR, rows=10, frauds=1, of=6_000)
    assert [each.parameters for each in judged(one, GOOD, rows).finals] == [GOOD, POOR]


def test_every_row_is_looked_at_and_what_judges_is_later(rows: LabelledRows, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = np.random.default_rng(0).permutation(len(rows.times))
    matrix = rows.matrix.copy()
    matrix[:, 0] = rows.times  # a row's time, to be seen where it goes
    fitted: list[npt.NDArray[np.float64]] = []
    held: list[npt.NDArray[np.float64]] = []

    def fit_seen(X: Any, *args: Any, **named: Any) -> bytes:
        fitted.append(X[:, 0])
        return fit_booster(X, *args, **named)

    def margins_seen(booster: Any, X: Any) -> Any:
        held.append(X[:, 0])
        return margins(booster, X)

    monkeypatch.setattr("fraud.training.finals.fit_booster", fit_seen)
    monkeypatch.setattr("fraud.training.finals.margins", margins_seen)
    finals(searched(POOR), GOOD, matrix[mixed], rows.times[mixed], rows.frauds[mixed], seed=3, threads=1)
    assert [len(each) for each in fitted] == [1_500, 3_000, 4_500] * 2
    assert [len(each) for each in held] == [1_500] * 6
    assert all(before.max() <= after.min() for before, after in zip(fitted, held, strict=True))


@pytest.mark.parametrize(("out", "best"), [({GOOD}, POOR), ({GOOD, POOR}, POOR), ({POOR}, GOOD)])
def test_a_finalist_that_the_memory_does_not_suffice_for_is_out(
    rows: LabelledRows, monkeypatch: pytest.MonkeyPatch, out: set[Parameters], best: Parameters
) -> None:
    def sometimes(X: Any, y: Any, parameters: Parameters, **named: Any) -> bytes:
        if parameters in out and len(X) > 2_000:
            raise ModelError("the memory doesn't suffice")
        return fit_booster(X, y, parameters, **named)

    monkeypatch.setattr("fraud.training.finals.fit_booster", sometimes)
    said: list[str] = []
    found = judged(searched(POOR), GOOD, rows, said.append)
    assert found.best == best
    assert {each.parameters for each in found.finals if each.failed} == out
    assert sum(line.endswith("out, the memory doesn't suffice") for line in said) == len(out)
    for each in found.to_dict()["finals"]:
        assert (each["average_precision"] is None) == (Parameters(**{k: each[k] for k in GOOD.to_dict()}) in out)


def test_a_default_that_wins_is_fitted_told_in_the_card_and_a_run_of_its_own(
    rows: LabelledRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_few_trees(monkeypatch, 1)
    trained = train(rows, GOOD, seed=5, threads=1, candidates=3)
    assert trained.search is not None
    assert trained.search.best == GOOD
    assert trained.bundle.params["trees"] == GOOD.trees
    result = {**trained.report(), "as_of": "2026-02-17"}
    sent = submission(trained, result, {"rows": "x", "seed": 5, "candidates": 3})
    assert [(tried.default, tried.best) for tried in sent.candidates] == [(False, False)] * 3 + [(True, True)]
    assert sum("average_precision_all_rows" in tried.metrics for tried in sent.candidates) == 3
    assert set(sent.candidates[-1].metrics) == {
        "average_precision_all_rows", *(f"average_precision_all_rows_fold_{n}" for n in (1, 2, 3))
    }  # fmt: skip
    card = sent.artifacts["model_card.md"].decode()
    taken = [line for line in card.splitlines() if line.endswith("| yes |")]
    words = "trees 40, depth 4, eta 0.1, min child weight 1, subsample 1, colsample 1, reg lambda 1"
    assert taken == [f"| {words} | {trained.search.finals[0].mean:.4f} | yes |"]
