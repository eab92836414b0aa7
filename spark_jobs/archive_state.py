"""What the archive job knows before a batch, read from the lake's tables alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from fraud import bus
from fraud.archive.changes import PLACE
from fraud.archive.clock import WINNER, Clock
from fraud.archive.index import Index, keys_of
from fraud.lake import Lake, read, reading
from fraud.lake.tables import BACKFILL, LABELS, PREDICTIONS, PROFILE_CHANGES, REJECTIONS, TABLES, Table

COUNTED = np.dtype([("frauds", "<i4")])


@dataclass(frozen=True)
class Batch:
    """A batch of a query: the name under which the lake keeps it."""

    query: str
    number: int

    @property
    def marker(self) -> str:
        """Return the name under which the online store remembers that it was applied."""
        return f"{self.query}/{self.number}"


@dataclass(frozen=True)
class State:
    """What was before a batch.

    Attributes:
        clock: the label clock.
        changed: the batches that changed profiles, as the lake has them, in their order.
        accepted, labels: rows in the lake that never came to count, because a job died in the middle of a batch
            and lost its checkpoint besides; they are the next batch's.
    """

    clock: Clock
    changed: list[Batch]
    accepted: pl.DataFrame
    labels: pl.DataFrame


def load(lake: Lake, at: Batch, *, parking_ms: int, topic_ids: dict[str, str], queries: Sequence[str] = ()) -> State:
    """Read what was before the batch `at`, which may be in some tables already.

    `queries` are in the order in which they wrote.

    Only a query's first batch looks for what never came to count: reading every prediction takes a while.
    """
    reader = _Reader(lake, at)
    clock = Clock(parking_ms)
    clock.now = reader.newest_broker_time()
    for day in reader.days(PROFILE_CHANGES, pl.col("transactions") == 1, *PLACE, "merchant_id", "quarter"):
        clock.know(day)
        streamed = day.filter(pl.col("topic_id") != BACKFILL)
        for (topic_id, partition), rows in streamed.group_by("topic_id", "partition"):
            clock.seen.add(str(topic_id), int(str(partition)), rows["offset"].to_numpy())
    known = _labels(reader, clock, topic_ids[bus.LABELS])
    first = at.number == 0
    return State(
        clock,
        reader.changed(queries),
        accepted_of(_uncounted(reader, clock, topic_ids), topic_ids)
        if first
        else accepted_of(_none(PREDICTIONS), topic_ids),
        _unweighed(reader, clock, known) if first else _none(LABELS),
    )


def accepted_of(predictions: pl.DataFrame, topic_ids: dict[str, str]) -> pl.DataFrame:
    """Return the transactions that these predictions are about, as the clock takes them."""
    return predictions.select(
        pl.lit(topic_ids[bus.TRANSACTIONS]).alias("topic_id"),
        pl.col("source_partition").alias("partition"),
        pl.col("source_offset").alias("offset"),
        "broker_time",
        "user_id",
        "transaction_id",
        "merchant_id",
        "timestamp",
    )


def frame(rows: object) -> pl.DataFrame:
    """Return Arrow's rows as polars has them."""
    found = pl.from_arrow(rows)
    assert isinstance(found, pl.DataFrame)  # noqa: S101  # from a table, not from an array
    return found


class _Reader:
    """The lake without the batch."""

    def __init__(self, lake: Lake, at: Batch) -> None:
        self._lake, self._at = lake, at
        self._scans: dict[str, pl.LazyFrame] = {}

    def scan(self, table: Table) -> pl.LazyFrame:
        """Return the rows of earlier batches."""
        mine = (pl.col("query") == self._at.query) & (pl.col("batch") >= self._at.number)
        if table.name not in self._scans:
            self._scans[table.name] = self._lake.scan(table).filter(~mine)
        return self._scans[table.name]

    def collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """Read."""
        with reading("the lake"):
            return rows.collect()

    def days(self, table: Table, which: pl.Expr, *columns: str) -> Iterator[pl.DataFrame]:
        """Yield rows in the order in which they came, a day at once: what was loaded, then what was streamed."""
        rows = self.scan(table).filter(which)
        days = self.collect(rows.select("date").unique())["date"].sort()
        for loaded in (True, False):
            for day in days:
                mine = rows.filter((pl.col("date") == day) & ((pl.col("topic_id") == BACKFILL) == loaded))
                yield self.collect(mine.sort("broker_time", "topic_id", "partition", "offset").select(columns))

    def newest_broker_time(self) -> int:
        """Return the newest broker time of all that was streamed, ms; 0 before any."""
        newest = 0
        for table in TABLES:
            streamed = self.scan(table).filter(pl.col("topic_id") != BACKFILL)
            at = self.collect(streamed.select(pl.col("broker_time").max().dt.epoch("ms"))).item()
            newest = max(newest, at or 0)
        return newest

    def changed(self, queries: Sequence[str]) -> list[Batch]:
        """Return the batches that changed profiles, in their order."""
        streamed = self.scan(PROFILE_CHANGES).filter(pl.col("topic_id") != BACKFILL)
        rows = self.collect(streamed.select("query", "batch").unique()).rows()
        order = {query: number for number, query in enumerate(queries)}
        return sorted((Batch(*row) for row in rows), key=lambda one: (order.get(one.query, -1), one.query, one.number))


def _labels(reader: _Reader, clock: Clock, topic_id: str) -> pl.DataFrame:
    """Let the clock remember every label; return those of known transactions that may count."""
    refused = reader.collect(
        reader.scan(REJECTIONS)
        .filter((pl.col("source_topic") == bus.LABELS) & (pl.col("reason") == "unknown_transaction"))
        .select(
            pl.lit(topic_id).alias("topic_id"),
            pl.col("source_partition").alias("partition"),
            pl.col("source_offset").alias("offset"),
        )
    )
    kept = []
    every = reader.scan(LABELS)
    for incarnation in reader.collect(read.incarnations(every))["topic_id"]:
        place = clock.incarnation(incarnation)
        labels = reader.collect(
            every.filter(pl.col("topic_id") == incarnation).select(*PLACE, "is_fraud", "labelled_at")
        ).join(refused, on=["topic_id", "partition", "offset"], how="anti", maintain_order="left")
        keys = keys_of(labels["user_id"], labels["transaction_id"])
        is_known, _ = clock.known.find(keys)
        waiting = labels.filter(pl.Series(~is_known)).sort("partition", "offset")
        waiting = waiting.filter(pl.col("broker_time").dt.epoch("ms") >= clock.now - clock.parking_ms)
        clock.park(keys_of(waiting["user_id"], waiting["transaction_id"]), clock.verdicts(waiting))
        labels = labels.filter(pl.Series(is_known))
        rows = np.zeros(len(labels), WINNER)
        rows["labelled_at"] = labels["labelled_at"].dt.epoch("ms").to_numpy()
        rows["incarnation"] = place
        rows["partition"], rows["offset"] = labels["partition"].to_numpy(), labels["offset"].to_numpy()
        rows["fraud"] = labels["is_fraud"].to_numpy()
        clock.recall(keys[is_known], rows)
        kept.append(labels.with_columns(pl.Series("key", keys[is_known])))
    return pl.concat(kept) if kept else _none(LABELS).with_columns(pl.lit(0, pl.UInt64).alias("key"))


def _unweighed(reader: _Reader, clock: Clock, known: pl.DataFrame) -> pl.DataFrame:
    """Return the labels that count and don't stand in `profile_changes`; the clock forgets that it knows them."""
    moved = reader.collect(
        reader.scan(PROFILE_CHANGES)
        .filter(pl.col("frauds") != 0)
        .group_by("user_id", "transaction_id")
        .agg(pl.col("frauds").sum())
    )
    counted = Index(COUNTED, keep="last")
    sums = np.zeros(len(moved), COUNTED)
    sums["frauds"] = moved["frauds"].to_numpy()
    counted.add(keys_of(moved["user_id"], moved["transaction_id"]), sums)
    keys = known["key"].to_numpy()
    _, winners = clock.winners.find(keys)
    frauds = counted.find(keys)[1]["frauds"] > 0
    counts = (winners["labelled_at"] == known["labelled_at"].dt.epoch("ms").to_numpy()) & (
        winners["offset"] == known["offset"].to_numpy()
    )
    owed = (winners["fraud"] != frauds) & counts
    before = np.zeros(int(owed.sum()), WINNER)
    before["labelled_at"], before["fraud"] = -1, frauds[owed]
    clock.winners.add(keys[owed], before)
    return known.filter(pl.Series(owed)).drop("key")


def _uncounted(reader: _Reader, clock: Clock, topic_ids: dict[str, str]) -> pl.DataFrame:
    """Return the predictions of the topic that is there now whose transactions never came to count."""
    columns = [*PLACE, "merchant_id", "timestamp", "source_partition", "source_offset"]
    found = [_none(PREDICTIONS).select(columns)]
    for day in reader.days(PREDICTIONS, pl.col("topic_id") == topic_ids[bus.PREDICTIONS], *columns):
        new = np.zeros(len(day), bool)
        for partition in day["source_partition"].unique():
            mine = (day["source_partition"] == partition).to_numpy()
            offsets = day["source_offset"].to_numpy()[mine]
            new[mine] = ~clock.seen.find(topic_ids[bus.TRANSACTIONS], partition, offsets)
        found.append(day.filter(pl.Series(new)))
    return pl.concat(found)


def _none(table: Table) -> pl.DataFrame:
    return frame(table.schema.empty_table())
