"""A table from outside is refused by its first wrong value, with row and column."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fraud.errors import ConfigError, DataError
from producer.simulate import Config, generate
from producer.tables import read_table, write_tables

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tables")
    write_tables(generate(Config(start=START, days=3, users=50, merchants=60)), made)
    return made


def spoil(folder: Path, to: Path, name: str, column: str, value: Any) -> Path:
    for each in ("transactions", "labels", "truth"):
        table = pl.read_parquet(folder / f"{each}.parquet")
        if each == name:
            kind = table.schema[column]
            wrong = pl.Series(column, [*table[column][:1].to_list(), value, *table[column][2:].to_list()], dtype=kind)
            table = table.with_columns(wrong)
        table.write_parquet(to / f"{each}.parquet")
    return to


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("amount", float("nan")),
        ("amount", float("inf")),
        ("amount", -1.0),
        ("amount", 0.0),
        ("amount", None),
        ("user_id", ""),
        ("user_id", None),
        ("transaction_id", "t" * 65),
        ("timestamp", None),
        ("timestamp", datetime(2200, 1, 1, tzinfo=UTC)),
        ("channel", "pigeon"),
        ("currency", "euro"),
        ("country", "Germany"),
        ("merchant_category", "12"),
        ("latitude", 1234.0),
        ("longitude", float("nan")),
    ],
)
def test_a_wrong_value_is_named_with_its_row(folder: Path, tmp_path: Path, column: str, value: Any) -> None:
    with pytest.raises(DataError, match=rf"{column} of row 1 is .*1 rows break this"):
        read_table(spoil(folder, tmp_path, "transactions", column, value), "transactions")


def test_a_label_needs_its_verdict_and_its_time(folder: Path, tmp_path: Path) -> None:
    for column in ("is_fraud", "labelled_at"):
        with pytest.raises(DataError, match=f"{column} of row 1 is None"):
            read_table(spoil(folder, tmp_path, "labels", column, None), "labels")


@pytest.mark.parametrize("column", ["channel", "country", "device_id", "latitude", "longitude", "merchant_category"])
def test_an_optional_value_may_be_absent(folder: Path, tmp_path: Path, column: str) -> None:
    read = read_table(spoil(folder, tmp_path, "transactions", column, None), "transactions")
    assert read[column][1] is None


def test_a_simulation_stays_within_the_messages_years() -> None:
    with pytest.raises(ConfigError, match="leave the years"):
        Config(start=datetime(2099, 6, 1, tzinfo=UTC), days=400)
    with pytest.raises(ConfigError, match="leave the years"):
        Config(start=datetime(1999, 6, 1, tzinfo=UTC), days=4)
    Config(start=START + timedelta(days=365), days=400)
