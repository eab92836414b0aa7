"""What a row of the offline tables may hold: the messages' rules (fraud/schema.py), column by column."""

from pathlib import Path

import polars as pl

from fraud.errors import DataError
from fraud.schema import CHANNELS

_YEARS = (2000, 2100)


def _id(name: str) -> pl.Expr:
    return pl.col(name).str.len_chars().is_between(1, 64)


def _time(name: str) -> pl.Expr:
    return pl.col(name).dt.year().is_between(*_YEARS)


def _number(name: str, least: float, most: float) -> pl.Expr:
    return pl.col(name).is_between(least, most) & pl.col(name).is_not_nan()


# Column → what holds of its values, and in words; a null breaks a required column's rule.
RULES: dict[str, tuple[pl.Expr, str]] = {
    "transaction_id": (_id("transaction_id"), "an id has 1 to 64 characters"),
    "user_id": (_id("user_id"), "an id has 1 to 64 characters"),
    "merchant_id": (_id("merchant_id"), "an id has 1 to 64 characters"),
    "timestamp": (_time("timestamp"), "a time lies in the years 2000 to 2100"),
    "amount": (_number("amount", 0, 10_000_000) & (pl.col("amount") > 0), "an amount is above 0, at most 10,000,000"),
    "currency": (pl.col("currency").str.contains(r"^[A-Z]{3}$"), "a currency has three capital letters"),
    "merchant_category": (pl.col("merchant_category").str.contains(r"^[0-9]{4}$"), "a category has four digits"),
    "channel": (pl.col("channel").is_in(CHANNELS), f"a channel is one of {', '.join(CHANNELS)}"),
    "country": (pl.col("country").str.contains(r"^[A-Z]{2}$"), "a country has two capital letters"),
    "device_id": (_id("device_id"), "an id has 1 to 64 characters"),
    "latitude": (_number("latitude", -90, 90), "a latitude lies in -90 to 90"),
    "longitude": (_number("longitude", -180, 180), "a longitude lies in -180 to 180"),
    "is_fraud": (pl.col("is_fraud").is_not_null(), "a verdict is true or false"),
    "labelled_at": (_time("labelled_at"), "a time lies in the years 2000 to 2100"),
}
OPTIONAL = frozenset({"merchant_category", "channel", "country", "device_id", "latitude", "longitude"})


def check(table: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Return the table if every value may be there.

    Raises:
        DataError: the first value that may not, with its row (counted from 0) and column.
    """
    for column in table.columns:
        if column not in RULES:
            continue
        rule, words = RULES[column]
        holds = rule.fill_null(value=column in OPTIONAL)
        broken = table.select(holds.not_().arg_true())
        if len(broken):
            row = int(broken.item(0, 0))
            raise DataError(
                f"{path}: {column} of row {row} is {table[column][row]!r}, and {words}; {len(broken):,} rows break this"
            )
    return table
