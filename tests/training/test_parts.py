"""Four parts in time order: nothing lost, nothing twice, equal times together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.errors import ConfigError, ModelError
from fraud.training import Shares, split
from fraud.training.parts import NAMES


@given(st.lists(st.integers(0, 50), min_size=1, max_size=200))
def test_parts_follow_each_other_and_hold_every_row_once(times: list[int]) -> None:
    when = np.array(times, np.int64)
    frauds = np.arange(len(times)) % 3 == 0
    try:
        parts = split(when, frauds, min_frauds=0)
    except ModelError as refused:
        assert "0 rows" in str(refused) or "among 1 rows" in str(refused) or "frauds among" in str(refused)
        return
    assert tuple(parts) == NAMES
    assert sorted(np.concatenate([part.index for part in parts.values()])) == list(range(len(times)))
    for earlier, later in zip(list(parts.values())[:-1], list(parts.values())[1:], strict=True):
        assert when[earlier.index].max() < when[later.index].min()
    assert all(part.frauds == frauds[part.index].sum() for part in parts.values())


def test_shares_are_of_the_rows() -> None:
    parts = split(np.arange(1_000), np.arange(1_000) % 2 == 0, Shares(0.4, 0.3, 0.2, 0.1))
    assert [len(part.index) for part in parts.values()] == [400, 300, 200, 100]
    assert [part.begin for part in parts.values()] == [0, 400, 700, 900]


def test_impossible_shares_and_no_rows_are_refused() -> None:
    with pytest.raises(ConfigError, match="add up to 1"):
        Shares(0.5, 0.5, 0.5, 0.5)
    with pytest.raises(ConfigError, match="positive"):
        Shares(1.0, 0.0, 0.0, 0.0)
    with pytest.raises(ModelError, match="no rows"):
        split(np.empty(0, np.int64), np.empty(0, bool))


def test_a_part_of_frauds_alone_is_refused() -> None:
    with pytest.raises(ModelError, match="part `fit`"):
        split(np.arange(100), np.ones(100, bool), min_frauds=1)


HOUR = 3_600_000
DAY = 24 * HOUR


def test_the_judge_gets_the_last_seven_days_where_half_is_left_for_the_others() -> None:
    times = np.arange(30 * 24, dtype=np.int64) * HOUR  # thirty days; 15 % are four and a half
    parts = split(times, times % (2 * HOUR) == 0, until=30 * DAY)
    assert [part.begin for part in parts.values()][-1] == 23 * DAY
    before = 23 * 24
    assert [len(part.index) for part in parts.values()] == [
        round(before * 0.55 / 0.85),
        round(before * 0.70 / 0.85) - round(before * 0.55 / 0.85),
        before - round(before * 0.70 / 0.85),
        7 * 24,
    ]


def test_a_share_that_covers_more_than_seven_days_stays() -> None:
    times = np.arange(100 * 24, dtype=np.int64) * HOUR
    parts = split(times, times % (2 * HOUR) == 0, until=100 * DAY)
    assert parts["judge"].begin == 85 * DAY


def test_few_days_are_cut_by_their_shares() -> None:
    times = np.arange(10 * 24, dtype=np.int64) * HOUR
    parts = split(times, times % (2 * HOUR) == 0, min_frauds=1, until=10 * DAY)
    assert [len(part.index) for part in parts.values()] == [132, 36, 36, 36]
