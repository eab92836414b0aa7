"""The archive job's work in this process: everything that the topics hold now, as one batch."""

import polars as pl
import pyarrow as pa

from fraud import backfill, ranges
from fraud.archive.changes import by_merchant, counted
from fraud.lake import open_lake
from fraud.lake.tables import PREDICTIONS, PROFILE_CHANGES, REJECTIONS, TRANSACTIONS, Table
from fraud.profiles import QUARTER_MS
from fraud.rebuild.tails import SOURCE, tail
from fraud.settings import Settings
from fraud.store.base import PartitionKey, Store

QUERY = "archive-of-a-test"


def load_past(settings: Settings, store: Store, past: backfill.Past, now: int) -> None:
    """Load a past into store and lake."""
    archive = backfill.Archive(open_lake(settings), "backfill/of-a-test")
    backfill.load(past, store, partitions=settings.topic_partitions, clock=lambda: now, archive=archive)


def archive(settings: Settings, store: Store, batch: int) -> None:
    """Write one batch and apply its changes, as `spark_jobs.archive` does."""
    lake = open_lake(settings)

    def append(table: Table) -> pl.DataFrame:
        names = [name for name in table.schema.names if name not in ("date", "query", "batch")]
        rows = tail(settings.kafka_bootstrap, lake, table, names)
        lake.append(table, rows.to_arrow().cast(_schema(table, names)), query=QUERY, batch=batch)
        return rows

    sent = append(TRANSACTIONS)
    append(PREDICTIONS)
    append(REJECTIONS)
    columns = {"source_partition": "partition", "source_offset": "offset"}
    scored = lake.scan(PREDICTIONS).select(*columns).rename(columns).collect().unique()
    topic_id = sent["topic_id"][0]
    collected = pl.concat(
        [
            sent.filter(
                (pl.col("partition") == number)
                & pl.Series(
                    ranges.contain(store.histories.collected(PartitionKey(topic_id, number)), sent["offset"].to_numpy())
                )
            ).select(SOURCE)
            for number in range(settings.topic_partitions)
        ]
    )
    accepted = sent.join(pl.concat([scored, collected]).unique(), on=SOURCE, how="semi")
    quarters = (accepted["timestamp"].dt.epoch("ms") // QUARTER_MS).to_numpy().astype("int32")
    before = store.profiles.through()
    changes = counted(accepted, quarters, before)
    table = changes.to_arrow()
    names = [name for name in PROFILE_CHANGES.schema.names if name not in ("date", "query", "batch")]
    assert lake.append(PROFILE_CHANGES, table.cast(_schema(PROFILE_CHANGES, names)), query=QUERY, batch=batch)
    through = max([int(quarters.max()), *([] if before is None else [before])])
    store.profiles.apply(
        by_merchant(changes),
        through,
        expected=store.profiles.applied(),
        applied=f"{QUERY}/{batch}",
        keep_from=None,
    )


def _schema(table: Table, names: list[str]) -> pa.Schema:
    return pa.schema([table.schema.field(name) for name in names])
