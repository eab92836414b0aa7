"""A past sent again: rows of a simulated directory or of the Handbook's file, with their own timestamps."""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import polars as pl

from fraud.codec import format_time, parse_time
from fraud.handbook import handbook_labels, read_handbook
from fraud.schema import Label, Transaction
from fraud.settings import PREFIX, Settings
from producer.bad import Bad, mix
from producer.labels import COLUMNS, make_labels
from producer.publisher import PATIENCE_S, Published, publish
from producer.tables import SCHEMAS, read_table

Format = Literal["simulated", "handbook"]
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%.3fZ"
_SLICE = 20_000  # rows turned into Python objects at once


@dataclass(frozen=True)
class Past:
    """Rows to send: `transactions` in arrival order, `labels` about them as they became known."""

    transactions: pl.DataFrame
    labels: pl.DataFrame


def read_past(
    path: Path,
    form: Format,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = None,
    labels_after: timedelta | None = None,
) -> Past:
    """Read the rows with since ≤ timestamp < until, the first `limit` of them, and what becomes known with them.

    Those are the labels about these rows, and the ones about older rows that became known after `since`: where
    the older rows were loaded, their labels up to `since` were too (`backfill --until`).

    Args:
        path: a directory of `simulate`, or the Handbook's Parquet file.
        labels_after: label every fraud so long after it (the Handbook's protocol, seven days by default);
            None: a directory's labels are those of labels.parquet.

    Raises:
        ConfigError, DataError: there is nothing at `path`, or it isn't what `form` says.
    """
    if form == "handbook":
        # The file is in time order: without `since` its head is enough.
        whole = read_handbook(path, limit if since is None else None)
        rows = _between(whole, since, until, limit)
        labels = handbook_labels(path, labels_after or timedelta(days=7), limit if since is None else None)
    else:
        whole = read_table(path, "transactions")
        rows = _between(whole, since, until, limit)
        about = rows if since is None else whole
        labels = read_table(path, "labels") if labels_after is None else _exact_labels(path, about, labels_after)
    known = labels.join(rows.select("user_id", "transaction_id"), on=["user_id", "transaction_id"], how="semi")
    if since is not None:
        older = (pl.col("timestamp") < since) & (pl.col("labelled_at") > since)
        known = pl.concat([labels.filter(older), known])
    return Past(
        rows.select(list(SCHEMAS["transactions"])), known.sort("labelled_at", maintain_order=True).select(COLUMNS)
    )


def _between(rows: pl.DataFrame, since: datetime | None, until: datetime | None, limit: int | None) -> pl.DataFrame:
    kept = pl.lit(value=True)
    if since is not None:
        kept &= pl.col("timestamp") >= since
    if until is not None:
        kept &= pl.col("timestamp") < until
    rows = rows.filter(kept)
    return rows if limit is None else rows.head(limit)


def _exact_labels(path: Path, rows: pl.DataFrame, after: timedelta) -> pl.DataFrame:
    """Label the frauds of `rows` by the directory's truth."""
    import numpy as np

    truth = rows.select("transaction_id").join(
        read_table(path, "truth"), on="transaction_id", how="left", maintain_order="left"
    )
    is_fraud = truth["is_fraud"].fill_null(value=False).to_numpy()
    return make_labels(np.random.default_rng(0), rows, is_fraud, round(after.total_seconds() * 1000))


def transactions(rows: pl.DataFrame) -> Iterator[Transaction]:
    """Return the rows as messages, in their order."""
    for part in rows.iter_slices(_SLICE):
        for row in part.with_columns(pl.col("timestamp").dt.strftime(_TIME_FORMAT)).iter_rows():
            yield Transaction(*row)


def labels(rows: pl.DataFrame) -> Iterator[Label]:
    """Return the rows as messages, in their order."""
    for part in rows.iter_slices(_SLICE):
        for row in part.with_columns(pl.col("timestamp", "labelled_at").dt.strftime(_TIME_FORMAT)).iter_rows():
            yield Label(*row)


def in_step(messages: Iterable[Transaction | Bad], told: Iterable[Label]) -> Iterator[Transaction | Bad | Label]:
    """Put each label before the first transaction that isn't older than its labelled_at, the rest after them all.

    Args:
        told: labels in the order in which they became known.
    """
    waiting = iter(told)
    label = next(waiting, None)
    for message in messages:
        if isinstance(message, Transaction):
            now = parse_time(message.timestamp)
            while label is not None and parse_time(label.labelled_at) <= now:
                yield label
                label = next(waiting, None)
        yield message
    while label is not None:
        yield label
        label = next(waiting, None)


def known_by(rows: pl.DataFrame, now_ms: int) -> pl.DataFrame:
    """Return the labels that are known at `now_ms`: the archive job refuses what comes from beyond its clock."""
    return rows.filter(pl.col("labelled_at").dt.epoch("ms") <= now_ms)


def age_warning(rows: pl.DataFrame, max_age_days: float | None, now_ms: int) -> str | None:
    """Return a sentence where the score job's age limit would refuse rows that arrive now, else None."""
    if max_age_days is None or rows.is_empty():
        return None
    age_ms = now_ms - rows["timestamp"].dt.epoch("ms")
    old = int((age_ms > max_age_days * 86_400_000).sum())
    if old == 0:
        return None
    oldest = format_time(now_ms - int(age_ms.max()))  # type: ignore[arg-type]
    return (
        f"{old:,} of {rows.height:,} rows are older than {PREFIX}MAX_AGE_DAYS={max_age_days:g} allows, the oldest "
        f"from {oldest}: a score job with this setting rejects them as too_old; "
        f"start it with {PREFIX}MAX_AGE_DAYS= (empty)"
    )


def replay(
    settings: Settings,
    rows: pl.DataFrame,
    told: pl.DataFrame | None = None,
    *,
    clock: Callable[[], int],
    rate: float | None = None,
    speed: float | None = None,
    seconds: float | None = None,
    bad: float = 0.0,
    seed: int = 1,
    stop: threading.Event | None = None,
    progress: Callable[[Published], None] | None = None,
    validate: bool = True,
    patience_s: float = PATIENCE_S,
) -> Published:
    """Send rows to `transactions` in their order, `bad` of all messages being mistakes; raises as `publish`.

    Args:
        rows: columns as in `producer.tables.SCHEMAS`.
        told: labels, which go to `transaction_labels` as the rows' time passes theirs (`in_step`).
        clock: the present, ms since the epoch; the bad messages' times are made from it.
        bad, seed: as in `producer.bad.mix`. The others: as in `publish`.
    """
    mixed = mix(transactions(rows), bad, seed=seed, clock=clock, max_age_days=settings.max_age_days)
    return publish(
        settings,
        mixed if told is None else in_step(mixed, labels(told)),
        rate=rate,
        speed=speed,
        seconds=seconds,
        stop=stop,
        progress=progress,
        validate=validate,
        patience_s=patience_s,
    )
