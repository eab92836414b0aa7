"""The label clock: a verdict exists from the moment it was given, and not before."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.builder import build_features, bulk_changes
from fraud.errors import ModelError
from fraud.training import labelled_rows
from producer.simulate import Config, Simulation, generate
from producer.tables import SCHEMAS

DAY_0 = datetime(2026, 1, 1, tzinfo=UTC)


def at(hours: float) -> datetime:
    return DAY_0 + timedelta(hours=hours)


def transactions(*rows: tuple[str, str, float]) -> pl.DataFrame:
    """(user, transaction, hours) → a table of transactions."""
    table: dict[str, Any] = {name: [None] * len(rows) for name in SCHEMAS["transactions"]}
    table |= {
        "user_id": [user for user, _, _ in rows],
        "transaction_id": [txn for _, txn, _ in rows],
        "merchant_id": ["m1"] * len(rows),
        "timestamp": [at(hours) for _, _, hours in rows],
        "amount": [10.0] * len(rows),
        "currency": ["EUR"] * len(rows),
    }
    return pl.DataFrame(table, schema=SCHEMAS["transactions"])


def labels(*rows: tuple[str, str, float, bool]) -> pl.DataFrame:
    """(user, transaction, labelled at hours, verdict) → a table of labels."""
    return pl.DataFrame(
        {
            "transaction_id": [row[1] for row in rows],
            "user_id": [row[0] for row in rows],
            "merchant_id": ["m1"] * len(rows),
            "timestamp": [DAY_0] * len(rows),
            "is_fraud": [row[3] for row in rows],
            "labelled_at": [at(row[2]) for row in rows],
            "source": ["analyst"] * len(rows),
        },
        schema=SCHEMAS["labels"],
    )


TABLE = transactions(("u1", "a", 0), ("u1", "b", 1), ("u2", "a", 2), ("u2", "c", 200))


@pytest.mark.parametrize(
    ("given_labels", "frauds"),
    [
        ([], [False, False, False]),
        ([("u1", "a", 10, True)], [True, False, False]),  # u2's transaction of the same name is another one
        ([("u1", "a", 10, True), ("u1", "a", 20, False)], [False, False, False]),
        ([("u1", "a", 20, False), ("u1", "a", 10, True)], [False, False, False]),  # the time counts first
        ([("u1", "a", 10, True), ("u1", "a", 10, False)], [False, False, False]),  # then the position
        ([("u1", "a", 10, False), ("u1", "a", 10, True)], [True, False, False]),
        ([("u1", "a", 200, True)], [True, False, False]),  # at the moment itself
        ([("u1", "a", 200.01, True)], [False, False, False]),  # a moment later
        ([("u9", "z", 10, True)], [False, False, False]),  # of no transaction
    ],
)
def test_the_last_verdict_known_at_the_moment_counts(
    given_labels: list[tuple[str, str, float, bool]], frauds: list[bool]
) -> None:
    rows = labelled_rows(TABLE, labels(*given_labels), at(200))
    assert rows.frauds.tolist() == frauds
    assert rows.cards.tolist() == [0, 0, 1]


def test_young_transactions_are_left_out_and_the_newest_is_the_default_moment() -> None:
    default = labelled_rows(TABLE, labels())
    assert default.as_of == int(at(200).timestamp() * 1000)
    assert len(default.times) == 3
    assert len(labelled_rows(TABLE, labels(), at(7 * 24 + 1)).times) == 2  # exactly seven days old is old enough
    assert len(labelled_rows(TABLE, labels(), at(200), timedelta(0)).times) == 4


def test_repeats_are_left_out() -> None:
    table = transactions(("u1", "a", 0), ("u1", "a", 0), ("u1", "b", 1), ("u1", "c", 200))
    rows = labelled_rows(table, labels(("u1", "a", 5, True)))
    assert rows.frauds.tolist() == [True, False]
    assert rows.matrix[:, 0].tolist() == [10.0, 10.0]


def test_nothing_old_enough_is_said_with_the_times() -> None:
    with pytest.raises(ModelError, match=r"no transaction is 7 days, 0:00:00 old at 2026-01-02.*--as-of"):
        labelled_rows(TABLE, labels(), at(24))
    with pytest.raises(ModelError, match="no transactions"):
        labelled_rows(TABLE.head(0), labels())


@pytest.fixture(scope="module")
def simulated() -> Simulation:
    return generate(Config(start=DAY_0, days=25, users=300, merchants=60, seed=4))


def test_features_are_those_of_the_whole_past_in_arrival_order(simulated: Simulation) -> None:
    table = simulated.transactions
    moment = at(20 * 24)
    rows = labelled_rows(table, simulated.labels, moment)
    whole = build_features(table, bulk_changes(table, simulated.labels))
    old = (table["timestamp"] <= moment - timedelta(days=7)).to_numpy()
    np.testing.assert_array_equal(rows.matrix, whole.matrix[old])
    assert (np.diff(rows.times) < 0).any()  # some came late


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32))
def test_the_future_changes_nothing(simulated: Simulation, seed: int) -> None:
    moment = at(18 * 24)
    before = labelled_rows(simulated.transactions, simulated.labels, moment)
    rng = np.random.default_rng(seed)
    keep = pl.Series(rng.random(len(simulated.labels)) < 0.5)
    changed = simulated.labels.filter((pl.col("labelled_at") <= moment) | keep).with_columns(
        pl.when(pl.col("labelled_at") > moment).then(~pl.col("is_fraud")).otherwise("is_fraud").alias("is_fraud")
    )
    arrived = int((simulated.transactions["timestamp"] <= moment).arg_true().max() or 0) + 1  # type: ignore[arg-type]
    after = labelled_rows(simulated.transactions.head(arrived), changed, moment)
    np.testing.assert_array_equal(after.matrix, before.matrix)
    np.testing.assert_array_equal(after.frauds, before.frauds)
