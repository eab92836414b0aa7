"""A past as the lake's rows: positions in file order, every change of a profile with the record that made it."""

from collections.abc import Callable, Iterator

import polars as pl
import pyarrow as pa

from fraud.lake import Lake
from fraud.lake.tables import BACKFILL, LABELS, NO_BATCH, PROFILE_CHANGES, TRANSACTIONS, Table
from fraud.profiles import GRACE_QUARTERS, QUARTER_MS

ROWS = 250_000  # a commit's

_ID = ["user_id", "transaction_id"]


def append_past(
    lake: Lake,
    transactions: pl.DataFrame,
    labels: pl.DataFrame | None,
    *,
    query: str,
    between: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda _words: None,
) -> None:
    """Append a past to the lake's tables, in commits of `ROWS`.

    Args:
        query: names the past; the same past appended twice is in the lake once.
        between: called before each commit.

    Raises:
        ServiceError: S3 is away. DataError: a value isn't the table's.
    """
    tables = [(TRANSACTIONS, transaction_rows(transactions))]
    if labels is not None:
        tables.append((LABELS, label_rows(labels)))
    tables.append((PROFILE_CHANGES, change_rows(transactions, labels)))
    for table, rows in tables:
        for batch, chunk in enumerate(_chunks(table, rows)):
            between()
            lake.append(table, chunk, query=query, batch=batch)
            say(f"lake: {min((batch + 1) * ROWS, len(rows)):,} of {len(rows):,} rows in {table.name}")


def transaction_rows(transactions: pl.DataFrame) -> pl.DataFrame:
    """Return transactions with their pseudo-positions; the broker took each when it happened."""
    digest = (
        pl.col("digest").cast(pl.UInt64).reinterpret(signed=True)
        if "digest" in transactions.columns
        else pl.lit(0, pl.Int64).alias("digest")  # there was no message, so no bytes
    )
    return _placed(transactions.with_columns(digest), "timestamp")


def label_rows(labels: pl.DataFrame) -> pl.DataFrame:
    """Return labels with their pseudo-positions; the broker took each when it was given."""
    return _placed(labels, "labelled_at")


def change_rows(transactions: pl.DataFrame, labels: pl.DataFrame | None) -> pl.DataFrame:
    """Return what `fraud.builder.bulk_changes` sums, record by record: the same sums, and who made them."""
    first = (
        _placed(transactions, "timestamp")
        .unique(_ID, keep="first", maintain_order=True)
        .with_columns(_quarter("timestamp").alias("quarter"))
    )
    known = first.select(*_ID, "merchant_id", "quarter")
    parts = [
        _change(
            first,
            cause=TRANSACTIONS.topic,
            effective=pl.col("quarter") + GRACE_QUARTERS,
            transactions=pl.lit(1),
            frauds=pl.lit(0),
        )
    ]
    if labels is not None:
        fraud = pl.col("is_fraud").cast(pl.Int32)
        verdicts = (
            _placed(labels, "labelled_at")
            .sort("labelled_at", "offset")
            .with_columns((fraud - fraud.shift(1).over(_ID).fill_null(0)).alias("moved"))
            .filter(pl.col("moved") != 0)
            .drop("merchant_id")  # the stored transaction's counts, not the label's
            .join(known, on=_ID, how="inner")
            .sort("offset")
        )
        parts.append(
            _change(
                verdicts,
                cause=LABELS.topic,
                effective=_quarter("labelled_at") + GRACE_QUARTERS,
                transactions=pl.lit(0),
                frauds=pl.col("moved"),
            )
        )
    return pl.concat(parts)


def _change(rows: pl.DataFrame, *, cause: str | None, **columns: pl.Expr) -> pl.DataFrame:
    return rows.select(
        "topic_id",
        "partition",
        "offset",
        "broker_time",
        pl.lit(cause).alias("cause"),
        *_ID,
        "merchant_id",
        "quarter",
        *(value.cast(pl.Int32).alias(name) for name, value in columns.items()),
    )


def _placed(rows: pl.DataFrame, time: str) -> pl.DataFrame:
    return rows.with_columns(
        pl.lit(BACKFILL).alias("topic_id"),
        pl.lit(0, pl.Int32).alias("partition"),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("offset"),
        pl.col(time).alias("broker_time"),
    )


def _quarter(column: str) -> pl.Expr:
    return (pl.col(column).dt.epoch("ms") // QUARTER_MS).cast(pl.Int32)


def _chunks(table: Table, rows: pl.DataFrame) -> Iterator[pa.Table]:
    """Yield the rows as the table wants them: what it doesn't know is left out, what it lacks is null."""
    filled = {"date", "query", "batch"}
    for start in range(0, len(rows), ROWS):
        part = rows.slice(start, ROWS)
        columns = {
            column.name: part[column.name].to_arrow() if column.name in part.columns else pa.nulls(len(part))
            for column in table.schema
            if column.name not in filled
        }
        yield pa.table({**columns, "batch": pa.repeat(pa.scalar(NO_BATCH, pa.int64()), len(part))})
