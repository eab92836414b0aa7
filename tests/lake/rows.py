"""Rows for the lake's tables, made up by their positions."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from fraud.lake import Lake, open_lake
from fraud.lake.tables import TIME, TRANSACTIONS, Table
from fraud.settings import Settings

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
CODES = {"channel": "pos", "merchant_category": "5411", "country": "NL", "currency": "EUR", "is_fraud": True}
FILLED = ("date", "query", "batch")  # by `append`


def lake_in(folder: Path) -> Lake:
    """Return a lake of a folder."""
    return open_lake(Settings.load({}, home=folder / "home", lake_uri=str(folder / "lake")))


def positions(offsets: range, *, topic_id: str = "topic", partition: int = 0, day: int = 0) -> dict[str, pa.Array]:
    """Return the columns of where records stood; the broker took them a second apart from `day` on."""
    times = [START + timedelta(days=day, seconds=offset) for offset in offsets]
    return {
        "topic_id": pa.array([topic_id] * len(offsets)),
        "partition": pa.array([partition] * len(offsets), pa.int32()),
        "offset": pa.array(list(offsets), pa.int64()),
        "broker_time": pa.array(times, TIME),
    }


def records(offsets: range, table: Table = TRANSACTIONS, **where: Any) -> pa.Table:
    """Return records of a table; texts name their column and offset, numbers are 1 or the offset."""
    columns = positions(offsets, **where)
    for column in table.schema:
        if column.name in columns or column.name in FILLED:
            continue
        if column.name in CODES:
            values: list[Any] = [CODES[column.name]] * len(offsets)
        elif column.type == pa.string():
            values = [f"{column.name[0]}{offset}" for offset in offsets]
        elif column.type == TIME:
            values = [START + timedelta(seconds=offset) for offset in offsets]
        elif column.name == "digest":
            values = [-1 - offset for offset in offsets]
        else:
            values = [1] * len(offsets)
        columns[column.name] = pa.array(values, column.type)
    return pa.table(columns)


def offsets_of(rows: pl.LazyFrame) -> list[int]:
    """Return the offsets of collected rows, sorted."""
    return sorted(rows.select("offset").collect()["offset"].to_list())
