"""The Fraud Detection Handbook's simulated data, as our tables.

Customers become `c596`, terminals `t3156`, transactions `tx0`; times are UTC, amounts in euros. What the
Handbook doesn't know (country, device, category, channel, position) is null. Rows without a positive amount
(27 of the first 1,102,483) are left out: no message may carry one. Source: Le Borgne, Siblini, Lebichot and
Bontempi, Reproducible Machine Learning for Credit Card Fraud Detection, 2022.
"""

from datetime import timedelta
from pathlib import Path

import polars as pl

from fraud.errors import ConfigError, DataError

_COLUMNS = {
    "TRANSACTION_ID": "an integer",
    "TX_DATETIME": "a time",
    "CUSTOMER_ID": "an integer",
    "TERMINAL_ID": "an integer",
    "TX_AMOUNT": "a number",
}
_LABEL = {"TX_FRAUD": "an integer"}
_MS = pl.Datetime("ms", "UTC")
_ABSENT = {
    "merchant_category": pl.String,
    "channel": pl.String,
    "country": pl.String,
    "device_id": pl.String,
    "latitude": pl.Float64,
    "longitude": pl.Float64,
}


def read_handbook(path: Path, limit: int | None = None) -> pl.DataFrame:
    """Return the Handbook's transactions in time order, as a table of transactions (no truth in it).

    Args:
        path: a Parquet file, or a folder of such files.
        limit: only the first so many.

    Raises:
        ConfigError: there is no such file.
        DataError: it isn't Parquet or lacks a column; the message names it.
    """
    return _rows(path, _COLUMNS, limit).select(
        _transaction_id(),
        _user_id(),
        _merchant_id(),
        _timestamp(),
        pl.col("TX_AMOUNT").cast(pl.Float64).alias("amount"),
        pl.lit("EUR").alias("currency"),
        *(pl.lit(None, kind).alias(name) for name, kind in _ABSENT.items()),
    )


def handbook_labels(path: Path, after: timedelta, limit: int | None = None) -> pl.DataFrame:
    """Return a label for every fraud among the first `limit` transactions, known `after` it happened.

    A table of labels in the order in which they become known; the rest has none, hence is legitimate.
    Raises as `read_handbook` does.
    """
    rows = _rows(path, _COLUMNS | _LABEL, limit)
    return rows.filter(pl.col("TX_FRAUD") != 0).select(
        _transaction_id(),
        _user_id(),
        _merchant_id(),
        _timestamp(),
        pl.lit(True).alias("is_fraud"),
        (_timestamp() + after).cast(_MS).alias("labelled_at"),
        pl.lit("simulator").alias("source"),
    )


def _rows(path: Path, columns: dict[str, str], limit: int | None) -> pl.DataFrame:
    """Read, check and order the rows that can be messages."""
    if not path.exists():
        raise ConfigError(f"{path} doesn't exist; give the Handbook's Parquet file, or a folder of them")
    source = path / "*.parquet" if path.is_dir() else path
    try:
        found = pl.read_parquet_schema(source) if path.is_file() else pl.scan_parquet(source).collect_schema()
        _check(path, found, columns)
        rows = pl.scan_parquet(source).select(*columns).filter(pl.col("TX_AMOUNT") > 0).collect()
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise DataError(f"{path} can't be read as Parquet: {str(exc).splitlines()[0]}") from exc
    empty = [name for name, count in rows.null_count().row(0, named=True).items() if count]
    if empty:
        raise DataError(f"{path}: {', '.join(empty)} is null in some rows; the Handbook's data have no nulls")
    rows = rows.sort("TX_DATETIME", "TRANSACTION_ID")
    return rows if limit is None else rows.head(limit)


def _check(path: Path, found: pl.Schema | dict[str, pl.DataType], columns: dict[str, str]) -> None:
    """Raise DataError where a column is missing or of another kind."""
    missing = [name for name in columns if name not in found]
    if missing:
        raise DataError(f"{path} lacks the column(s) {', '.join(missing)}; the Handbook has {', '.join(columns)}")
    for name, kind in columns.items():
        held = found[name]
        fits = {"an integer": held.is_integer(), "a number": held.is_numeric(), "a time": held == pl.Datetime}[kind]
        if not fits:
            raise DataError(f"{path}: {name} is {held}, not {kind}")
        if kind == "a time" and getattr(held, "time_zone", None) not in (None, "UTC"):
            raise DataError(f"{path}: {name} is {held}; give it in UTC, or without a zone")


def _transaction_id() -> pl.Expr:
    return ("tx" + pl.col("TRANSACTION_ID").cast(pl.String)).alias("transaction_id")


def _user_id() -> pl.Expr:
    return ("c" + pl.col("CUSTOMER_ID").cast(pl.String)).alias("user_id")


def _merchant_id() -> pl.Expr:
    return ("t" + pl.col("TERMINAL_ID").cast(pl.String)).alias("merchant_id")


def _timestamp() -> pl.Expr:
    return pl.col("TX_DATETIME").dt.cast_time_unit("ms").dt.replace_time_zone("UTC").alias("timestamp")
