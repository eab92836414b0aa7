"""The Handbook's file becomes our tables, and a broken one is named."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from fraud.errors import ConfigError, DataError
from fraud.handbook import handbook_labels, read_handbook
from producer.tables import SCHEMAS

RAW = {
    "TRANSACTION_ID": [1, 0, 2, 3],
    "TX_DATETIME": ["2018-04-01T00:02:10", "2018-04-01T00:00:31", "2018-04-02T00:00:00", "2018-04-02T00:00:00"],
    "CUSTOMER_ID": [4961, 596, 2, 596],
    "TERMINAL_ID": [3412, 3156, 1365, 3156],
    "TX_AMOUNT": [81.51, 57.16, 0.0, 300.0],
    "TX_FRAUD": [0, 0, 0, 1],
    "TX_FRAUD_SCENARIO": [0, 0, 0, 1],
}


def raw() -> pl.DataFrame:
    return pl.DataFrame(RAW).with_columns(pl.col("TX_DATETIME").str.to_datetime(time_unit="ns"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    raw().write_parquet(tmp_path / "handbook.parquet")
    return tmp_path / "handbook.parquet"


def test_transactions_come_in_time_order_with_prefixed_ids_and_without_amounts_of_zero(path: Path) -> None:
    table = read_handbook(path)
    assert dict(table.schema) == SCHEMAS["transactions"]
    assert table["transaction_id"].to_list() == ["tx0", "tx1", "tx3"]
    assert table["user_id"].to_list() == ["c596", "c4961", "c596"]
    assert table["merchant_id"].to_list() == ["t3156", "t3412", "t3156"]
    assert table["timestamp"][0] == datetime(2018, 4, 1, 0, 0, 31, tzinfo=UTC)
    assert table["amount"].to_list() == [57.16, 81.51, 300.0]
    assert set(table["currency"]) == {"EUR"}
    assert table["country"].null_count() == 3


def test_labels_say_what_is_fraud_seven_days_later(path: Path) -> None:
    labels = handbook_labels(path, timedelta(days=7))
    assert dict(labels.schema) == SCHEMAS["labels"]
    assert labels.select("transaction_id", "user_id", "labelled_at").rows() == [
        ("tx3", "c596", datetime(2018, 4, 9, tzinfo=UTC))
    ]


def test_a_limit_counts_rows_that_can_be_messages(path: Path) -> None:
    assert read_handbook(path, 2)["transaction_id"].to_list() == ["tx0", "tx1"]
    assert read_handbook(path, 3).height == 3
    assert handbook_labels(path, timedelta(days=7), limit=2).height == 0


def test_a_folder_is_read_as_one_file(path: Path) -> None:
    raw().with_columns(pl.col("TRANSACTION_ID") + 10).write_parquet(path.with_name("later.parquet"))
    assert read_handbook(path.parent).height == 6


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (pl.lit(1).alias("TX_AMOUNT").cast(pl.String), "TX_AMOUNT is String, not a number"),
        (pl.lit("x").alias("CUSTOMER_ID"), "CUSTOMER_ID is String, not an integer"),
        (pl.lit(5).alias("TX_DATETIME"), "TX_DATETIME is .*, not a time"),
        (pl.col("TX_DATETIME").dt.replace_time_zone("Europe/Brussels"), "in UTC"),
        (pl.lit(None, pl.Int32).alias("TERMINAL_ID"), "TERMINAL_ID is null"),
    ],
)
def test_a_column_of_another_kind_is_named(path: Path, change: pl.Expr, reason: str) -> None:
    raw().with_columns(change).write_parquet(path)
    with pytest.raises(DataError, match=reason):
        read_handbook(path)


def test_a_missing_column_or_file_is_named(path: Path) -> None:
    raw().drop("TX_FRAUD", "CUSTOMER_ID").write_parquet(path)
    with pytest.raises(DataError, match=r"lacks the column\(s\) CUSTOMER_ID;"):
        read_handbook(path)
    with pytest.raises(DataError, match=r"CUSTOMER_ID, TX_FRAUD"):
        handbook_labels(path, timedelta(days=7))
    with pytest.raises(ConfigError, match="doesn't exist"):
        read_handbook(path.with_name("nowhere.parquet"))
    path.write_bytes(b"no parquet")
    with pytest.raises(DataError, match="can't be read as Parquet"):
        read_handbook(path)
    path.unlink()
    with pytest.raises(DataError, match="can't be read as Parquet"):
        read_handbook(path.parent)
