"""The Handbook's protocol: on synthetic rows its arithmetic, on the Handbook's own file its figures."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fraud.errors import ConfigError
from fraud.handbook import handbook_labels, read_handbook
from fraud.training import LabelledRows, Parameters, labelled_rows
from fraud.training.protocol import newest_weeks, run_protocol
from tests.training.synthetic import DAY, synthetic_rows

SMALL = Parameters(trees=10, depth=3)


@pytest.fixture(scope="module")
def rows() -> LabelledRows:
    return synthetic_rows(6_000, days=30)


def test_the_newest_weeks_end_with_the_data(rows: LabelledRows) -> None:
    assert newest_weeks(rows) == [date(2026, 1, 3), date(2026, 1, 10)]
    assert newest_weeks(rows, 1) == [date(2026, 1, 10)]
    short = rows.times < rows.times.min() + 19 * DAY
    fewer = replace(rows, times=rows.times[short])
    with pytest.raises(ConfigError, match="needs 21"):
        newest_weeks(fewer)


def test_means_are_over_weeks_and_lie_between_floor_and_oracle(rows: LabelledRows) -> None:
    found = run_protocol(rows, newest_weeks(rows), SMALL, threads=1)
    for name, value in found["mean"].items():
        assert value == pytest.approx(np.mean([week[name] for week in found["weeks"]]))
        assert found["floor"][name] < value <= found["oracle"][name]


def test_known_cards_and_other_days_are_not_tested(rows: LabelledRows) -> None:
    (week,) = run_protocol(rows, [date(2026, 1, 3)], SMALL, threads=1)["weeks"]
    day = (rows.times - round(datetime(2026, 1, 3, tzinfo=UTC).timestamp() * 1000)) // DAY
    tested = 0
    for today in range(14, 21):
        known = set(rows.cards[rows.frauds & (day >= 0) & (day <= today - 8)].tolist())
        tested += sum(card not in known for card in rows.cards[day == today].tolist())
    assert week["rows"] == tested


def test_a_week_outside_the_data_is_refused(rows: LabelledRows) -> None:
    for start in (date(2025, 12, 31), date(2026, 1, 11)):
        with pytest.raises(ConfigError, match=f"training from {start} needs 21 days"):
            run_protocol(rows, [start], SMALL, threads=1)


def test_the_handbooks_last_given_week_reaches_the_measured_quality(shared_data: Path) -> None:
    """Average precision .718 was measured; the book's best on its own weeks is .694."""
    path, week = shared_data / "handbook", timedelta(days=7)
    newest = datetime(2018, 7, 25, tzinfo=UTC)
    # The longest window reads 37 days back.
    recent = pl.col("timestamp") >= newest - timedelta(days=21 + 40)
    transactions, labels = read_handbook(path).filter(recent), handbook_labels(path, week).filter(recent)
    rows = labelled_rows(transactions, labels, newest + week, week)
    found = run_protocol(rows, [date(2018, 7, 4)], threads=1)["weeks"][0]
    assert found["average_precision"] >= 0.68
    assert found["auc"] >= 0.87
    assert found["card_precision_100"] >= 0.25
    assert found["oracle"]["card_precision_100"] == pytest.approx(0.367, abs=0.001)
