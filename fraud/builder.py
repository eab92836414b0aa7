"""The offline caller of the feature kernel: whole histories at once, from tables in arrival order.

Tables as `fraud-detect simulate` writes them: transactions with `timestamp` (datetime[ms, UTC]), labels
with `labelled_at` besides. Row order is arrival order.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from fraud import features, history, profiles
from fraud.codec import country_code, hash_id
from fraud.errors import DataError
from fraud.features import ACCEPTED, Folded, Matrix
from fraud.history import EVENT, Events
from fraud.schema import CHANNELS

REQUIRED = ("transaction_id", "user_id", "merchant_id", "timestamp", "amount")
OPTIONAL = ("merchant_category", "channel", "country", "device_id", "latitude", "longitude", "digest")
CHANGES = {
    "merchant_id": pl.String,
    "quarter": pl.Int32,
    "effective": pl.Int32,
    "transactions": pl.Int32,
    "frauds": pl.Int32,
}


@dataclass(frozen=True)
class Built:
    """Features of a table, row by row.

    Attributes:
        matrix: shape (rows, features), float64, NaN is null; repeats are all NaN.
        status: shape (rows,), int8: ACCEPTED, DUPLICATE or CONFLICTING (`fraud.features`).
    """

    matrix: Matrix
    status: npt.NDArray[np.int8]


def build_features(transactions: pl.DataFrame, changes: pl.DataFrame | None) -> Built:
    """Compute every feature of every row; a merchant's features come from `changes` (None: no profiles).

    Raises:
        DataError: a required column is missing, or a time is null.
    """
    folded, order, _ = _fold(transactions)
    matrix, status = np.empty_like(folded.matrix), np.empty_like(folded.status)
    matrix[order], status[order] = folded.matrix, folded.status
    accepted = np.flatnonzero(status == ACCEPTED)
    rows = transactions[accepted] if len(accepted) < len(transactions) else transactions
    part = matrix[accepted]
    add_merchant_columns(part, rows, changes)
    matrix[accepted] = part
    return Built(matrix, status)


def add_merchant_columns(matrix: Matrix, transactions: pl.DataFrame, changes: pl.DataFrame | None) -> None:
    """Fill the merchant columns of `matrix` (rows as `transactions`) in place."""
    names = transactions["merchant_id"].unique(maintain_order=True)
    index = dict(zip(names.to_list(), range(len(names)), strict=True))
    packed: list[bytes | None] = [None] * len(names)
    if changes is not None:
        for merchant, value in pack_profiles(changes.filter(pl.col("merchant_id").is_in(names.implode()))):
            packed[index[merchant]] = value
    who = _positions(transactions["merchant_id"], names)
    features.add_merchant_features(matrix, _times(transactions), who, profiles.unpack(packed))


def pack_histories(transactions: pl.DataFrame) -> dict[str, bytes]:
    """Return every user's packed history after the last row of the table."""
    folded, _, users = _fold(transactions)
    packed = history.pack_all(folded.newest, folded.entries, folded.start, folded.stop)
    return dict(zip(users, packed, strict=True))


def bulk_changes(transactions: pl.DataFrame, labels: pl.DataFrame | None) -> pl.DataFrame:
    """Return the profile changes of a bulk load: effective two quarters after the record's own quarter.

    Transactions count in their own quarter; a label moves the fraud count of its transaction's quarter,
    from labelled_at's quarter + 2 on, by the difference to what the labels before it said. Hour and
    merchant come from the stored transaction, not from the label; repeats and labels of unknown
    transactions count nothing. Columns: `CHANGES`; sorted by merchant, quarter, effective.
    """
    known = transactions.unique(["user_id", "transaction_id"], keep="first", maintain_order=True).select(
        "user_id",
        "transaction_id",
        "merchant_id",
        (pl.col("timestamp").dt.epoch("ms") // profiles.QUARTER_MS).cast(pl.Int32).alias("quarter"),
    )
    parts = [
        known.select(
            "merchant_id",
            "quarter",
            (pl.col("quarter") + profiles.GRACE_QUARTERS).alias("effective"),
            pl.lit(1, pl.Int32).alias("transactions"),
            pl.lit(0, pl.Int32).alias("frauds"),
        )
    ]
    if labels is not None and len(labels):
        verdicts = (
            labels.with_row_index("position")
            .sort("labelled_at", "position")
            .select(
                "user_id",
                "transaction_id",
                (
                    pl.col("is_fraud").cast(pl.Int32)
                    - pl.col("is_fraud").cast(pl.Int32).shift(1).over("user_id", "transaction_id").fill_null(0)
                ).alias("frauds"),
                (pl.col("labelled_at").dt.epoch("ms") // profiles.QUARTER_MS).cast(pl.Int32).alias("labelled"),
            )
        )
        parts.append(
            verdicts.filter(pl.col("frauds") != 0)
            .join(known, on=["user_id", "transaction_id"], how="inner")
            .select(
                "merchant_id",
                "quarter",
                (pl.col("labelled") + profiles.GRACE_QUARTERS).alias("effective"),
                pl.lit(0, pl.Int32).alias("transactions"),
                "frauds",
            )
        )
    return (
        pl.concat(parts)
        .group_by("merchant_id", "quarter", "effective")
        .agg(pl.col("transactions").sum(), pl.col("frauds").sum())
        .cast(CHANGES)  # type: ignore[arg-type]
        .sort("merchant_id", "quarter", "effective")
    )


def pack_profiles(changes: pl.DataFrame) -> Iterator[tuple[str, bytes]]:
    """Yield each merchant's packed profile."""
    ordered = changes.sort("merchant_id", "quarter", "effective")
    packed = np.empty(len(ordered), profiles.CHANGE)
    for name in profiles.CHANGE.names or ():
        packed[name] = ordered[name].to_numpy()
    at = 0
    for merchant, count in (
        ordered.select(pl.col("merchant_id").rle()).unnest("merchant_id").select("value", "len").iter_rows()
    ):
        yield merchant, packed[at : at + count].tobytes()
        at += count


def last_quarter(transactions: pl.DataFrame) -> int:
    """Return the newest quarter-hour of the table: `profile_through` after a bulk load of it."""
    return profiles.quarter_of(int(_times(transactions).max()))


def event_table(transactions: pl.DataFrame) -> Events:
    """Return the table's rows as kernel events, shape (rows,), dtype EVENT."""
    missing = [name for name in REQUIRED if name not in transactions.columns]
    if missing:
        raise DataError(f"the table of transactions lacks {', '.join(missing)}; it has {transactions.columns}")
    events = np.zeros(len(transactions), EVENT)
    events["time"] = _times(transactions)
    events["amount"] = transactions["amount"].cast(pl.Float64).to_numpy()
    events["merchant"] = _coded(transactions["merchant_id"], hash_id)
    events["txn"] = [hash_id(text) for text in transactions["transaction_id"].to_list()]
    have = {name for name in OPTIONAL if name in transactions.columns}
    if "device_id" in have:
        events["device"] = _coded(transactions["device_id"], hash_id)
    if "country" in have:
        events["country"] = _coded(transactions["country"], country_code)
    if "digest" in have:
        events["digest"] = transactions["digest"].to_numpy()
    events["lat"] = events["lon"] = np.nan
    if {"latitude", "longitude"} <= have:
        lat = transactions["latitude"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        lon = transactions["longitude"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        unknown = np.isnan(lat) | np.isnan(lon)
        events["lat"], events["lon"] = np.where(unknown, np.nan, lat), np.where(unknown, np.nan, lon)
    events["channel"] = events["mcc"] = -1
    if "channel" in have:
        events["channel"] = _coded(transactions["channel"], CHANNELS.index, null=-1)
    if "merchant_category" in have:
        events["mcc"] = _coded(transactions["merchant_category"], int, null=-1)
    return events


def _fold(transactions: pl.DataFrame) -> tuple[Folded, npt.NDArray[np.int64], list[str]]:
    """Fold a table from empty histories; return the result, the rows' order in it and the users."""
    events = event_table(transactions)
    users = transactions["user_id"].unique(maintain_order=True)
    codes = _positions(transactions["user_id"], users)
    order = np.argsort(codes, kind="stable")
    bounds = np.zeros(len(users) + 1, np.int64)
    np.cumsum(np.bincount(codes, minlength=len(users)), out=bounds[1:])
    empty = history.unpack([None] * len(users))
    return features.fold(events[order], bounds, empty), order, users.to_list()


def _positions(column: pl.Series, distinct: pl.Series) -> npt.NDArray[np.int64]:
    """Return each row's position in `distinct`."""
    numbers = pl.Series(range(len(distinct)), dtype=pl.Int64)
    # The cast is for an empty column, which Polars hands back as it is.
    return column.replace_strict(distinct, numbers).cast(pl.Int64).to_numpy()


def _times(transactions: pl.DataFrame) -> npt.NDArray[np.int64]:
    times = transactions["timestamp"]
    if times.null_count():
        raise DataError(f"{times.null_count()} of {len(times)} transactions have no timestamp")
    return times.dt.epoch("ms").to_numpy()


def _coded(column: pl.Series, code, *, null: int = 0) -> npt.NDArray[np.int64]:  # type: ignore[no-untyped-def]
    """Apply `code` once per distinct value; null stays `null`."""
    if column.null_count() == len(column):
        return np.full(len(column), null, np.int64 if null < 0 else np.uint64)
    dtype = pl.Int64 if null < 0 else pl.UInt64
    distinct = column.drop_nulls().unique()
    codes = pl.Series([code(value) for value in distinct.to_list()], dtype=dtype)
    return column.replace_strict(distinct, codes, default=null, return_dtype=dtype).to_numpy()
