"""From a training set's files to the arrays that training takes; one file's rows are doubled at a time."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl

from fraud.dataset.manifest import Manifest, Part
from fraud.features import FEATURE_NAMES
from fraud.times import parse_time
from fraud.training import LabelledRows

Reader = Callable[[Part, list[str] | None], pl.DataFrame]
_NAMED = ["user_id", "transaction_id", "merchant_id", "timestamp", "is_fraud"]


def matrix_of(manifest: Manifest, part: Reader) -> LabelledRows:
    """Return the rows in the order of (time, user, transaction), whatever files they lie in."""
    named = pl.concat([part(each, _NAMED) for each in manifest.parts])
    order = named.select(pl.arg_sort_by("timestamp", "user_id", "transaction_id")).to_series().to_numpy()
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    matrix = np.empty((manifest.rows, len(FEATURE_NAMES)))
    at = 0
    for each in manifest.parts:
        features = part(each, list(FEATURE_NAMES))
        for column, name in enumerate(FEATURE_NAMES):
            matrix[place[at : at + each.rows], column] = features[name].fill_null(np.nan).to_numpy()
        at += each.rows
    named = named[order]
    return LabelledRows(
        matrix=matrix,
        times=named["timestamp"].dt.epoch("ms").to_numpy(),
        frauds=named["is_fraud"].to_numpy(),
        cards=_codes(named["user_id"]),
        merchants=_codes(named["merchant_id"]),
        as_of=parse_time(manifest.as_of),
        maturity=manifest.maturity_s * 1000,
    )


def _codes(column: pl.Series) -> npt.NDArray[np.int64]:
    return column.rank("dense").cast(pl.Int64).to_numpy() - 1
