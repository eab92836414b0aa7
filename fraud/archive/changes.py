"""Changes of merchant profiles: as rows of the lake's table `profile_changes`, and as the online store takes them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fraud.lake.tables import LABELS, PROFILE_CHANGES, TRANSACTIONS
from fraud.profiles import CHANGE, GRACE_QUARTERS

# What a caller gives of a record: where it stands and whom it is about. Times are Datetime; more does no harm.
PLACE = ("topic_id", "partition", "offset", "broker_time", "user_id", "transaction_id")
FILLED = ("date", "query", "batch")  # by `Lake.append`
COLUMNS = [name for name in PROFILE_CHANGES.schema.names if name not in FILLED]
TYPES: dict[Any, Any] = {  # as polars wants a mapping of names to types
    "broker_time": pl.Datetime("us", "UTC"),
    "partition": pl.Int32,
    "quarter": pl.Int32,
    "effective": pl.Int32,
    "transactions": pl.Int32,
    "frauds": pl.Int32,
}


def counted(rows: pl.DataFrame, quarters: npt.NDArray[np.int32], before: int | None) -> pl.DataFrame:
    """Return the changes of accepted transactions (PLACE and merchant_id) in these quarters."""
    return (
        rows.select(
            *PLACE,
            "merchant_id",
            pl.lit(TRANSACTIONS.topic).alias("cause"),
            pl.Series("quarter", quarters),
            pl.Series("effective", effective(quarters.astype(np.int64), before)),
            pl.lit(1).alias("transactions"),
            pl.lit(0).alias("frauds"),
        )
        .select(COLUMNS)
        .cast(TYPES)
    )


def moved(
    labels: pl.DataFrame,
    *,
    merchants: Sequence[str],
    quarters: npt.NDArray[np.int32],
    own: npt.NDArray[np.int64],
    frauds: Sequence[int],
    before: int | None,
) -> pl.DataFrame:
    """Return the changes that labels (PLACE) make: of their transactions' merchants and quarters.

    `own` are the quarters in which the labels were given, `frauds` is 1 or -1; all of shape (n,).
    """
    return (
        labels.select(
            *PLACE,
            pl.Series("merchant_id", merchants, pl.String),
            pl.lit(LABELS.topic).alias("cause"),
            pl.Series("quarter", quarters),
            pl.Series("effective", effective(own, before)),
            pl.lit(0).alias("transactions"),
            pl.Series("frauds", frauds, pl.Int32),
        )
        .select(COLUMNS)
        .cast(TYPES)
    )


def effective(own: npt.NDArray[np.int64], before: int | None) -> npt.NDArray[np.int64]:
    """Return E of records whose own quarters these are; `before` is profile_through before their batch.

    >>> effective(np.array([5, 9]), 7).tolist(), effective(np.array([5, 9]), None).tolist()
    ([9, 11], [7, 11])
    """
    return (own if before is None else np.maximum(own, before)) + GRACE_QUARTERS


def by_merchant(changes: pl.DataFrame) -> dict[str, npt.NDArray[np.void]]:
    """Return each merchant's changes as its profile has them: summed per quarter and effective quarter, sorted."""
    summed = (
        changes.group_by("merchant_id", "quarter", "effective")
        .agg(pl.col("transactions").sum(), pl.col("frauds").sum())
        .sort("merchant_id", "quarter", "effective")
    )
    packed = np.zeros(len(summed), CHANGE)
    for name in CHANGE.names or ():
        packed[name] = summed[name].to_numpy()
    names, counts = (
        summed.select(pl.col("merchant_id").rle()).unnest("merchant_id").select("value", "len").get_columns()
    )
    ends = np.cumsum(counts.to_numpy()) if len(counts) else np.zeros(0, np.int64)
    return dict(zip(names, np.split(packed, ends[:-1]), strict=True)) if len(names) else {}
