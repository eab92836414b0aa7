"""The lake's rows as the rest of the platform reads them: in arrival order, with the core's own types."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

from fraud.builder import CHANGES
from fraud.lake.faults import reading
from fraud.lake.tables import BACKFILL, PROFILE_CHANGES, TRANSACTIONS

if TYPE_CHECKING:
    from fraud.lake import Lake

SOURCE = ["topic_id", "partition", "offset"]


def incarnations(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Return topic_id and its `incarnation`, numbered in their order: what was loaded, then what was streamed.

    A topic that was made anew has another id; its incarnations follow each other by their first broker time, by
    their ids where that is the same.
    """
    first = rows.group_by("topic_id").agg(pl.col("broker_time").min().alias("_first"))
    ordered = first.sort(pl.col("topic_id") != BACKFILL, "_first", "topic_id")
    return ordered.with_row_index("incarnation").select("topic_id", "incarnation")


def transactions(rows: pl.LazyFrame, order: pl.LazyFrame | None = None) -> pl.LazyFrame:
    """Return rows of the table `transactions` as `fraud.builder` reads them, in arrival order.

    That is: what was loaded before what was streamed, a topic's incarnations in their order, then partition and
    offset. `timestamp` is in milliseconds, `digest` unsigned; the position's columns stay.

    Args:
        order: the whole table's `incarnations`; None: those of the rows.
    """
    return (
        rows.join(incarnations(rows) if order is None else order, on="topic_id", how="left")
        .sort("incarnation", "partition", "offset")
        .drop("incarnation")
        .with_columns(
            pl.col("timestamp").dt.cast_time_unit("ms"),
            pl.col("digest").reinterpret(signed=False),
        )
    )


def changes(rows: pl.LazyFrame) -> pl.DataFrame:
    """Return rows of the table `profile_changes` as `fraud.builder.CHANGES`: summed per merchant, quarter, effective.

    Raises:
        ServiceError: S3 is away. DataError: the table is damaged.
    """
    summed = (
        rows.group_by("merchant_id", "quarter", "effective")
        .agg(pl.col("transactions").sum(), pl.col("frauds").sum())
        .select(pl.col(name).cast(kind) for name, kind in CHANGES.items())
        .sort("merchant_id", "quarter", "effective")
    )
    with reading("the lake's table profile_changes"):
        return summed.collect(engine="streaming")


def accepted(lake: "Lake", cut: Mapping[str, int]) -> pl.LazyFrame:
    """Return the rows of `transactions` in a cut that were accepted: those that `profile_changes` counts.

    Columns as the table has them; `transactions` brings them into arrival order.
    """
    return accepted_of(lake.at(TRANSACTIONS, cut), lake.at(PROFILE_CHANGES, cut))


def accepted_of(transactions: pl.LazyFrame, changes: pl.LazyFrame) -> pl.LazyFrame:
    """Return the accepted rows among these of the table `transactions`, by these of `profile_changes`."""
    return transactions.join(counted(changes).select(SOURCE), on=SOURCE, how="semi")


def counted(changes: pl.LazyFrame) -> pl.LazyFrame:
    """Return the rows of `profile_changes` that say that a transaction was accepted, one each."""
    return changes.filter((pl.col("transactions") == 1) & (pl.col("cause") == TRANSACTIONS.topic))
