"""What is read from the lake is what the builder wants, in arrival order."""

from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from fraud.builder import CHANGES, build_features
from fraud.lake import Lake, read
from fraud.lake.tables import BACKFILL, PROFILE_CHANGES, TRANSACTIONS
from tests.lake.rows import lake_in, positions, records


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return lake_in(tmp_path)


def changed(offsets: range, *, cause: str = "transactions", transactions: int = 1) -> pa.Table:
    count = len(offsets)
    return pa.table(
        positions(offsets)
        | {
            "cause": pa.array([cause] * count),
            "user_id": pa.array([f"u{offset}" for offset in offsets]),
            "transaction_id": pa.array([f"t{offset}" for offset in offsets]),
            "merchant_id": pa.array([f"m{offset % 2}" for offset in offsets]),
            "quarter": pa.array([10] * count),
            "effective": pa.array([12] * count),
            "transactions": pa.array([transactions] * count),
            "frauds": pa.array([1 - transactions] * count),
        }
    )


def test_transactions_come_in_arrival_order_with_the_builders_types(lake: Lake) -> None:
    lake.append(TRANSACTIONS, records(range(2), topic_id="a-newer", day=9), query="q", batch=0)
    lake.append(TRANSACTIONS, records(range(2, 4), topic_id="z-older", partition=1), query="q", batch=1)
    lake.append(TRANSACTIONS, records(range(4, 6), topic_id="z-older", day=1), query="q", batch=2)
    lake.append(TRANSACTIONS, records(range(3), topic_id=BACKFILL, day=20), query="backfill/x", batch=0)
    rows = read.transactions(lake.scan(TRANSACTIONS)).collect()
    assert rows.select("topic_id", "partition", "offset").rows() == [
        *((BACKFILL, 0, offset) for offset in range(3)),
        *(("z-older", 0, offset) for offset in (4, 5)),
        *(("z-older", 1, offset) for offset in (2, 3)),
        *(("a-newer", 0, offset) for offset in range(2)),
    ]
    assert rows.schema["timestamp"] == pl.Datetime("ms", "UTC")
    assert rows["digest"].to_list()[:2] == [2**64 - 1, 2**64 - 2]
    assert len(build_features(rows, None).status) == len(rows)


def test_changes_are_summed_as_the_builder_reads_them(lake: Lake) -> None:
    assert read.changes(lake.scan(PROFILE_CHANGES)).schema == pl.Schema(CHANGES)
    lake.append(PROFILE_CHANGES, changed(range(4)), query="q", batch=0)
    lake.append(PROFILE_CHANGES, changed(range(1), cause="transaction_labels", transactions=0), query="q", batch=1)
    found = read.changes(lake.scan(PROFILE_CHANGES))
    assert found.schema == pl.Schema(CHANGES)
    assert found.rows() == [("m0", 10, 12, 2, 1), ("m1", 10, 12, 2, 0)]


def test_accepted_are_those_that_count(lake: Lake) -> None:
    lake.append(TRANSACTIONS, records(range(6)), query="q", batch=0)
    lake.append(TRANSACTIONS, records(range(2), topic_id="other"), query="q", batch=1)
    lake.append(PROFILE_CHANGES, changed(range(0, 6, 2)), query="q", batch=0)
    lake.append(PROFILE_CHANGES, changed(range(1, 2), cause="transaction_labels"), query="q", batch=1)
    cut = lake.cut()
    lake.append(PROFILE_CHANGES, changed(range(5, 6)), query="q", batch=2)
    assert sorted(read.accepted(lake, cut).select("topic_id", "offset").collect().rows()) == [
        ("topic", 0),
        ("topic", 2),
        ("topic", 4),
    ]
    assert read.accepted(lake, {}).collect().is_empty()
    assert read.accepted(lake, {"transactions": cut["transactions"]}).collect().is_empty()
