"""Which label counts: the training set and the archive job go by one rule, whatever order the lake hands rows in."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fraud.archive.clock import Clock
from fraud.backfill.archived import append_past
from fraud.dataset import build
from fraud.lake.tables import BACKFILL, LABELS
from tests.dataset.lakes import NOW, WEEK, T, labels, lake_at, streamed, transactions

# Ids whose order isn't the order in which the topic was made anew.
TOPICS = [BACKFILL, "zz", "mm", "aa"]
# A label: its transaction, the verdict, when it was given (days from T), the incarnation and partition it came by.
SAID = st.tuples(
    st.integers(0, 1), st.booleans(), st.sampled_from([-1, -1, -1, -2]), st.integers(0, 3), st.integers(0, 1)
)


def records(said: list[tuple[int, bool, int, int, int]], together: bool) -> pl.DataFrame:
    """Return labels in the order in which they came: by incarnation, in each partition by offset."""
    rows = labels([(number, verdict, day, False) for number, verdict, day, _, _ in said])
    begun = [T if together else T + timedelta(days=number) for number in range(len(TOPICS))]
    placed = rows.with_columns(
        pl.Series("topic_id", [TOPICS[incarnation] for *_, incarnation, _ in said]),
        pl.Series("partition", [partition for *_, partition in said], pl.Int32),
        pl.Series("broker_time", [begun[incarnation] for *_, incarnation, _ in said], pl.Datetime("us", "UTC")),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("number"),
    )
    order = placed.sort("broker_time", "number").with_columns(
        pl.int_range(pl.len(), dtype=pl.Int64).over("topic_id", "partition").alias("offset")
    )
    if together:  # then the ids decide which incarnation came first
        order = order.sort(pl.col("topic_id") != BACKFILL, "topic_id", maintain_order=True)
    return order.drop("number")


def by_the_archive(said: pl.DataFrame) -> dict[str, bool]:
    """Return what the archive job comes to, label after label."""
    clock = Clock(parking_ms=2**60)
    accepted = streamed(transactions(3), 0, T)
    clock.step(accepted, said.clear(), now=0)
    moved: dict[str, int] = {f"t{i}": 0 for i in range(3)}
    for one in said.iter_slices(1):
        for name, frauds in clock.step(accepted.clear(), one, now=0).changes.select("transaction_id", "frauds").rows():
            moved[name] += frauds
    return {name: bool(frauds) for name, frauds in moved.items()}


@pytest.mark.parametrize("together", [False, True])
@hypothesis_settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(SAID, min_size=5, max_size=12), seed=st.integers(0, 99))
def test_the_newest_label_is_the_archives_newest(
    tmp_path_factory: pytest.TempPathFactory,
    together: bool,
    said: list[tuple[int, bool, int, int, int]],
    seed: int,
) -> None:
    read, lake = lake_at(tmp_path_factory.mktemp("ties"))
    append_past(lake, transactions(3), None, query="past")
    came = records(said, together)
    shuffled = came.sample(fraction=1, shuffle=True, seed=seed)
    for batch, part in enumerate(shuffled.iter_slices(3)):
        lake.append(LABELS, part.to_arrow(), query="q", batch=batch)
    dataset = build(read, T, WEEK, now=NOW)
    named = pl.concat([dataset.part(part) for part in dataset.manifest.parts])
    assert dict(named.select("transaction_id", "is_fraud").iter_rows()) == by_the_archive(came)


def test_incarnations_are_those_of_the_table_whoevers_labels_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one user the newer topic's label has the older broker time: users alone would order the topics otherwise."""
    read, lake = lake_at(tmp_path)
    append_past(lake, transactions(3), None, query="past")
    old, new = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 20, tzinfo=UTC)
    first = streamed(labels([(1, False, -1, False)]), 0, old, "zz")
    contradicted = [
        streamed(labels([(0, True, -1, False)]), 0, new, "aa"),
        streamed(labels([(0, False, -1, False)]), 9, new + timedelta(hours=1), "zz"),
    ]
    rows = pl.concat([first, *contradicted])
    rows = rows[Random(1).sample(range(3), 3)]
    lake.append(LABELS, rows.to_arrow(), query="q", batch=0)
    monkeypatch.setattr("fraud.dataset.ROWS_AT_ONCE", 1)
    dataset = build(read, T, WEEK, now=NOW)
    assert len(dataset.manifest.parts) == 3
    assert dataset.manifest.frauds == 1
