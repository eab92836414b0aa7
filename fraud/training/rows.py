"""The label clock: which transactions, with which labels, were known at a moment.

A verdict that came later, or that is about a transaction too young to have one, doesn't exist yet.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from fraud.builder import build_features, bulk_changes
from fraud.errors import ModelError
from fraud.features import ACCEPTED, Matrix
from fraud.times import format_time

MATURITY = timedelta(days=7)


@dataclass(frozen=True)
class LabelledRows:
    """Rows to train on and to judge on, in arrival order.

    Attributes:
        matrix: shape (n, features), float64, NaN is null.
        times: shape (n,), int64, ms since the epoch, UTC.
        frauds: shape (n,), bool, as known at `as_of`.
        cards: shape (n,), int64 from 0 on: the user of each row.
        merchants: shape (n,), int64 from 0 on: its merchant.
        as_of: the moment of the label clock, ms.
        maturity: how old a row must be at that moment, ms.
    """

    matrix: Matrix
    times: npt.NDArray[np.int64]
    frauds: npt.NDArray[np.bool_]
    cards: npt.NDArray[np.int64]
    merchants: npt.NDArray[np.int64]
    as_of: int
    maturity: int


def labelled_rows(
    transactions: pl.DataFrame, labels: pl.DataFrame, as_of: datetime | None = None, maturity: timedelta = MATURITY
) -> LabelledRows:
    """Return the training set as it was known at `as_of`.

    Args:
        transactions: in arrival order, as `fraud-detect simulate` writes them.
        labels: append-only; a row's position is its place in the table.
        as_of: default: the newest transaction's time.
        maturity: younger transactions are left out.

    Of several labels about one transaction the greatest (labelled_at, position) up to `as_of` counts; one
    without is legitimate. Features come from every event in arrival order: what became effective later than a
    row can't be in them. Repeats are left out.

    Raises:
        ModelError: no transaction is old enough.
    """
    times = transactions["timestamp"].dt.epoch("ms").to_numpy()
    if len(times) == 0:
        raise ModelError("there are no transactions to train on")
    clock = int(times.max()) if as_of is None else round(as_of.timestamp() * 1000)
    age = round(maturity.total_seconds() * 1000)
    mature = times <= clock - age
    if not mature.any():
        raise ModelError(
            f"no transaction is {maturity} old at {format_time(clock)}: they lie between "
            f"{format_time(int(times.min()))} and {format_time(int(times.max()))}; give a later --as-of"
        )
    # What arrived after the last mature row can't be in its features.
    seen = transactions.head(int(np.flatnonzero(mature)[-1]) + 1)
    built = build_features(seen, bulk_changes(seen, labels))
    keep = mature[: len(seen)] & (built.status == ACCEPTED)
    rows = seen.filter(pl.Series(keep))
    return LabelledRows(
        matrix=built.matrix[keep],
        times=times[: len(seen)][keep],
        frauds=_verdicts(rows, labels, clock),
        cards=_codes(rows["user_id"]),
        merchants=_codes(rows["merchant_id"]),
        as_of=clock,
        maturity=age,
    )


def _codes(ids: pl.Series) -> npt.NDArray[np.int64]:
    """Number the ids from 0 on, in their order."""
    return ids.rank("dense").cast(pl.Int64).to_numpy() - 1


def _verdicts(rows: pl.DataFrame, labels: pl.DataFrame, clock: int) -> npt.NDArray[np.bool_]:
    """Return what was known of each row at `clock`, shape (rows,)."""
    key = ["user_id", "transaction_id"]
    latest = (
        labels.with_row_index("position")
        .filter(pl.col("labelled_at").dt.epoch("ms") <= clock)
        .sort("labelled_at", "position")
        .unique(key, keep="last", maintain_order=True)
        .select(*key, "is_fraud")
    )
    return (
        rows.select(key).join(latest, on=key, how="left", maintain_order="left")["is_fraud"].fill_null(False).to_numpy()
    )
