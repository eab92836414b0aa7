"""Thresholds against brute force over every distinct score."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import fbeta_score

from fraud.errors import ModelError
from fraud.training.thresholds import choose_thresholds, precision_bound

ROWS = st.lists(
    st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.8]) | st.floats(0, 1), st.booleans()), min_size=1, max_size=40
)


@settings(deadline=None, max_examples=60)
@given(ROWS)
def test_review_is_the_best_f2_over_every_cut(rows: list[tuple[float, bool]]) -> None:
    scores = np.array([score for score, _ in rows])
    frauds = np.array([fraud for _, fraud in rows])
    assume(frauds.any())
    chosen = choose_thresholds(scores, frauds)
    reached = {cut: fbeta_score(frauds, scores >= cut, beta=2) for cut in sorted(set(scores), reverse=True)}
    best = max(reached.values())
    assert chosen.f2 == pytest.approx(best)
    assert reached[chosen.review] == pytest.approx(best)
    assert chosen.block is None or chosen.block > chosen.review


def test_block_is_the_lowest_sure_score_above_review() -> None:
    # 40 sure frauds, then a mixture that F2 still wants, then the rest.
    scores = np.concatenate([np.linspace(0.99, 0.9, 40), np.full(40, 0.5), np.full(400, 0.1)])
    frauds = np.concatenate([np.ones(40), np.arange(40) % 2, np.zeros(400)]).astype(bool)
    chosen = choose_thresholds(scores, frauds)
    assert chosen.review == 0.5
    assert chosen.block == 0.9
    assert chosen.block_precision_bound == pytest.approx(0.05 ** (1 / 40))


def test_block_is_off_where_nothing_is_sure_and_says_how_near_it_came() -> None:
    scores = np.concatenate([np.full(20, 0.9), np.full(20, 0.5), np.full(400, 0.1)])
    frauds = np.concatenate([np.ones(20), np.arange(20) % 2, np.zeros(400)]).astype(bool)
    chosen = choose_thresholds(scores, frauds)
    assert chosen.block is None
    assert chosen.block_precision_bound == pytest.approx(0.05 ** (1 / 20))
    single = choose_thresholds(np.array([0.5, 0.1]), np.array([True, False]))
    assert (single.review, single.block, single.block_precision_bound) == (0.5, None, None)


def test_rows_of_equal_score_are_never_parted() -> None:
    scores, frauds = np.full(10, 0.4), np.arange(10) == 0
    chosen = choose_thresholds(scores, frauds)
    assert chosen.review == 0.4
    assert chosen.f2 == pytest.approx(5 / (5 + 9))


@pytest.mark.parametrize(("hits", "flagged"), [(1, 1), (5, 9), (29, 29), (95, 100)])
def test_the_bound_is_where_so_many_hits_become_unlikely(hits: int, flagged: int) -> None:
    (bound,) = precision_bound(np.array([hits]), np.array([flagged]))
    assert binom.sf(hits - 1, flagged, bound) == pytest.approx(0.05)


def test_no_frauds_no_thresholds() -> None:
    with pytest.raises(ModelError, match="none of 3 rows"):
        choose_thresholds(np.array([0.1, 0.2, 0.3]), np.zeros(3, bool))
