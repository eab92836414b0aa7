"""The merchants' profiles in a cut, for the builder: every change of every one, 16 bytes each."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from fraud.features import Matrix, add_merchant_features
from fraud.lake import read, reading
from fraud.profiles import CHANGE, Profiles

CHANGES_AT_ONCE = 2_000_000  # rows of the lake that are summed together, some hundred megabytes


class Merchants:
    """Profiles side by side, read once for all users."""

    def __init__(self, rows: pl.LazyFrame) -> None:
        """Read them from `profile_changes`; raises as `fraud.lake.read.changes`."""
        names, counts, changes = [], [], []
        for part in _parts(rows):
            runs = part.select(pl.col("merchant_id").rle()).unnest("merchant_id")
            names.append(runs["value"])
            counts.append(runs["len"].to_numpy())
            packed = np.empty(len(part), CHANGE)
            for name in CHANGE.names or ():
                packed[name] = part[name].to_numpy()
            changes.append(packed)
        self._names = pl.concat(names)
        # At the end one merchant without any change: whoever isn't known.
        sizes = np.concatenate([*counts, [0]])
        self._profiles = Profiles(np.concatenate(changes), np.concatenate([[0], np.cumsum(sizes)]))

    def fill(self, matrix: Matrix, rows: pl.DataFrame) -> None:
        """Fill the merchants' columns of `matrix` (rows as `rows`: merchant_id, timestamp) in place."""
        numbers = pl.Series(range(len(self._names)), dtype=pl.Int64)
        who = rows["merchant_id"].replace_strict(self._names, numbers, default=len(self._names), return_dtype=pl.Int64)
        add_merchant_features(matrix, rows["timestamp"].dt.epoch("ms").to_numpy(), who.to_numpy(), self._profiles)


def _parts(rows: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """Yield the changes of some merchants at a time, whole merchants, sorted."""
    with reading("the lake's table profile_changes"):
        total = rows.select(pl.len()).collect(engine="streaming").item()
    parts = max(1, -(-total // CHANGES_AT_ONCE))
    for part in range(parts):
        yield read.changes(rows.filter(pl.col("merchant_id").hash() % parts == part))
