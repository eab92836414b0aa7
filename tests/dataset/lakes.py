"""Lakes of a few rows for tests of training sets: 15 transactions of three users, and what is said about them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from fraud.backfill.archived import append_past
from fraud.dataset import build, load, to_rows
from fraud.features import FEATURE_NAMES, FEATURE_VERSION
from fraud.lake import Lake, open_lake
from fraud.lake.tables import LABELS, PROFILE_CHANGES, TRANSACTIONS
from fraud.profiles import QUARTER_MS
from fraud.settings import Settings

T = datetime(2026, 2, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
FOLDER = "datasets/2026-02-01T000000.000Z"

# Of a label: its transaction (15 and 16 are nobody's), the verdict, when it was given (days from T), a wrong merchant.
Said = tuple[int, bool, int, bool]


def lake_at(folder: Path) -> tuple[Settings, Lake]:
    """Return an empty lake in a folder."""
    read = Settings.load({}, home=folder / "home", lake_uri=str(folder / "lake"))
    return read, open_lake(read)


def transactions(count: int) -> pl.DataFrame:
    """Return transactions t0, t1, … of c0 to c2 at m0 and m1, seven hours apart from 20 days before T on."""
    at = [T - timedelta(days=20) + timedelta(hours=7 * i) for i in range(count)]
    return pl.DataFrame(
        {
            "transaction_id": [f"t{i}" for i in range(count)],
            "user_id": [f"c{i % 3}" for i in range(count)],
            "merchant_id": [f"m{i % 2}" for i in range(count)],
            "timestamp": at,
            "amount": [10.0 + i for i in range(count)],
            "currency": ["EUR"] * count,
            **{name: [None] * count for name in ("merchant_category", "channel", "country", "device_id")},
            **{name: [None] * count for name in ("latitude", "longitude")},
        },
        schema_overrides={
            "timestamp": pl.Datetime("ms", "UTC"),
            **dict.fromkeys(("merchant_category", "channel", "country", "device_id"), pl.String),
            **dict.fromkeys(("latitude", "longitude"), pl.Float64),
        },
    )


def labels(said: list[Said]) -> pl.DataFrame:
    """Return an analyst's labels."""
    return pl.DataFrame(
        [
            (f"t{number}", f"c{number % 3}", "m9" if wrong else f"m{number % 2}", T, verdict, T + timedelta(days=day))
            for number, verdict, day, wrong in said
        ],
        schema={
            "transaction_id": pl.String,
            "user_id": pl.String,
            "merchant_id": pl.String,
            "timestamp": pl.Datetime("ms", "UTC"),
            "is_fraud": pl.Boolean,
            "labelled_at": pl.Datetime("ms", "UTC"),
        },
        orient="row",
    ).with_columns(pl.lit("analyst").alias("source"))


def streamed(rows: pl.DataFrame, first: int, broker: datetime, topic_id: str = "topic") -> pl.DataFrame:
    """Give rows the positions of records of a topic."""
    return rows.with_columns(
        pl.lit(topic_id).alias("topic_id"),
        pl.lit(0, pl.Int32).alias("partition"),
        (pl.int_range(pl.len()) + first).alias("offset"),
        pl.lit(broker).cast(pl.Datetime("us", "UTC")).alias("broker_time"),
    )


def archive(lake: Lake, rows: pl.DataFrame, broker: datetime, *, batch: int = 0, topic_id: str = "topic") -> None:
    """Append transactions as the archive job does, each of them accepted."""
    placed = streamed(rows, 0, broker, topic_id).with_columns(pl.lit(0, pl.Int64).alias("digest"))
    quarter = (pl.col("timestamp").dt.epoch("ms") // QUARTER_MS).cast(pl.Int32)
    counted = placed.select(
        *("topic_id", "partition", "offset", "broker_time", "user_id", "transaction_id", "merchant_id"),
        pl.lit("transactions").alias("cause"),
        quarter.alias("quarter"),
        (quarter + 2).alias("effective"),
        pl.lit(1, pl.Int32).alias("transactions"),
        pl.lit(0, pl.Int32).alias("frauds"),
    )
    lake.append(TRANSACTIONS, placed.to_arrow(), query="q", batch=batch)
    lake.append(PROFILE_CHANGES, counted.to_arrow(), query="q", batch=batch)


def prediction(rows: pl.DataFrame, version: str = FEATURE_VERSION, amount: float = 77.0) -> pl.DataFrame:
    """Return a prediction of each row, whose features say that the model saw `amount`."""
    seen = [pl.lit(amount).alias(name) for name in FEATURE_NAMES]
    return rows.select(
        pl.lit(0, pl.Int32).alias("source_partition"),
        pl.int_range(pl.len()).alias("source_offset"),
        "transaction_id",
        "user_id",
        "merchant_id",
        "timestamp",
        "amount",
        *(pl.lit(0.5).alias(name) for name in ("fraud_probability", "threshold")),
        pl.lit(1).alias("prediction"),
        *(pl.lit(name).alias(name) for name in ("decision", "model_name", "model_version")),
        pl.lit(version).alias("feature_version"),
        *(pl.lit(T).alias(name) for name in ("profile_through", "scored_at")),
        pl.struct(seen).alias("features"),
    )


def two_builds_at_once(read: Settings, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Build one moment twice: both see no manifest, a label comes between their cuts, who is first decides for both."""
    append_past(lake, transactions(15), None, query="past")
    both, lock = threading.Barrier(2, timeout=30), threading.Lock()
    cut, labelled = Lake.cut, iter([False, True])

    def taken(self: Lake) -> dict[str, int]:
        with lock:
            if next(labelled):
                late = streamed(labels([(1, True, -3, False)]), 0, T)
                lake.append(LABELS, late.to_arrow(), query="q", batch=0)
            versions = cut(self)
        both.wait()
        return versions

    monkeypatch.setattr(Lake, "cut", taken)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: build(read, T, WEEK, now=NOW), range(2))
    assert one.manifest == other.manifest == load(read, one.uri).manifest
    assert to_rows(one).frauds.sum() == to_rows(other).frauds.sum() == one.manifest.frauds
    assert sorted(lake.place.sizes(FOLDER)) == ["manifest.json", *(part.name for part in one.manifest.parts)]
