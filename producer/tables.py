"""The offline tables on disk: transactions.parquet, labels.parquet, truth.parquet in one directory."""

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from fraud.errors import ConfigError, DataError
from producer.values import check

if TYPE_CHECKING:
    from producer.simulate import Simulation

_TIME = pl.Datetime("ms", "UTC")
SCHEMAS: dict[str, dict[str, pl.DataType]] = {
    "transactions": {
        "transaction_id": pl.String(),
        "user_id": pl.String(),
        "merchant_id": pl.String(),
        "timestamp": _TIME,
        "amount": pl.Float64(),
        "currency": pl.String(),
        "merchant_category": pl.String(),
        "channel": pl.String(),
        "country": pl.String(),
        "device_id": pl.String(),
        "latitude": pl.Float64(),
        "longitude": pl.Float64(),
    },
    "labels": {
        "transaction_id": pl.String(),
        "user_id": pl.String(),
        "merchant_id": pl.String(),
        "timestamp": _TIME,
        "is_fraud": pl.Boolean(),
        "labelled_at": _TIME,
        "source": pl.String(),
    },
    "truth": {"transaction_id": pl.String(), "is_fraud": pl.Boolean(), "scenario": pl.String()},
}


def write_tables(simulation: "Simulation", directory: Path) -> dict[str, Path]:
    """Write the three tables into `directory` (made if absent); return their paths by name."""
    paths = {name: directory / f"{name}.parquet" for name in SCHEMAS}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, path in paths.items():
            getattr(simulation, name).write_parquet(path, compression="zstd")
    except OSError as exc:
        raise DataError(f"can't write the tables to {directory}: {exc.strerror or exc}") from exc
    return paths


def read_table(directory: Path, name: str) -> pl.DataFrame:
    """Read one table, in its stored order, and check its columns.

    Raises:
        ConfigError: there is no such directory or file; the message says what makes one.
        DataError: the file isn't Parquet, columns are missing or of another type, or a value breaks its rule;
            the message names it.
    """
    path = directory / f"{name}.parquet"
    if not path.is_file():
        what = "is not a directory" if not directory.is_dir() else f"has no {path.name}"
        raise ConfigError(f"{directory} {what}; `fraud-detect simulate --out {directory}` makes one")
    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise DataError(f"{path} can't be read as Parquet: {exc}") from exc
    return conform(table, name, path)


def conform(table: pl.DataFrame, name: str, path: Path) -> pl.DataFrame:
    """Return the contract's columns in the contract's order; extra ones are left out."""
    schema = SCHEMAS[name]
    missing = [column for column in schema if column not in table.columns]
    if missing:
        raise DataError(f"{path} lacks the column(s) {', '.join(missing)}; {name} needs {', '.join(schema)}")
    wrong = [
        f"{column} is {table.schema[column]}, not {kind}"
        for column, kind in schema.items()
        if table.schema[column] not in (kind, pl.Null())
    ]
    if wrong:
        raise DataError(f"{path}: {'; '.join(wrong)}")
    return check(table.select(pl.col(column).cast(kind) for column, kind in schema.items()), path)


def has_tables(directory: Path) -> bool:
    """Return whether `directory` holds a table of transactions."""
    return (directory / "transactions.parquet").is_file()
