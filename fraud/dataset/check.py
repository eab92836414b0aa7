"""Whether a training set can be trained on: counts, the rate of frauds, each feature's range."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from fraud.dataset import Dataset
from fraud.dataset.content import content_hash, hashes
from fraud.errors import DataError
from fraud.features import FEATURE_NAMES, FEATURES
from fraud.times import parse_time

MOST_FRAUDS = 0.5
WEEK_MS = 7 * 86_400_000
# What a value can be, beside the finite numbers that every feature is.
RANGES: dict[str, tuple[float, float]] = {
    "amount": (0.0, 1e7),
    "hour_of_day": (0, 23),
    "day_of_week": (0, 6),
    **{feature.name: (0, 1) for feature in FEATURES if feature.kind == "flag"},
    **{feature.name: (0, np.inf) for feature in FEATURES if feature.kind == "count"},
    **{feature.name: (0.0, 1.0) for feature in FEATURES if feature.name.startswith("merchant_fraud_rate")},
}


@dataclass(frozen=True)
class Checked:
    """What a check found; `warnings` are sentences for people."""

    rows: int
    frauds: int
    fraud_rate: float
    missing: dict[str, float]  # feature -> share of missing values
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return vars(self) | {"missing": {name: round(share, 4) for name, share in self.missing.items()}}


def check(dataset: Dataset) -> Checked:
    """Check a training set, one file after the other.

    Raises:
        DataError: with every fault that makes it unfit, a sentence each; or a file isn't what was built.
    """
    known = dataset.manifest
    tally = _Tally(parse_time(known.as_of) - known.maturity_s * 1000)
    for part in known.parts:
        tally.add(dataset.part(part))
    count, frauds = tally.rows, tally.frauds
    faults = []
    if (count, frauds) != (known.rows, known.frauds):
        faults.append(
            f"its files hold {count:,} rows and {frauds:,} frauds, "
            f"its manifest says {known.rows:,} and {known.frauds:,}"
        )
    elif content_hash(tally.digests) != known.sha256:
        faults.append(f"its rows have the hash {content_hash(tally.digests)}, its manifest says {known.sha256}")
    if frauds in (0, count):
        faults.append(f"{frauds:,} of {count:,} rows are frauds: there is one class only, nothing can be learnt")
    elif frauds / count >= MOST_FRAUDS:
        faults.append(f"{frauds / count:.0%} of the rows are frauds: labels can't be right")
    for name, seen in tally.seen.items():
        low, high = RANGES.get(name, (-np.inf, np.inf))
        if seen.values and not (np.isfinite([seen.low, seen.high]).all() and low <= seen.low and seen.high <= high):
            faults.append(f"{name} lies between {seen.low:g} and {seen.high:g}; {low:g} to {high:g} is possible")
    empty = [name for name, seen in tally.seen.items() if not seen.values]
    if "amount" in empty or len(empty) == len(FEATURE_NAMES):
        faults.append(f"of {', '.join(empty)} there is no value")
    if faults:
        raise DataError(f"the training set {dataset.uri} can't be used: {'; '.join(faults)}")
    warnings = [f"{name} is missing in every row" for name in empty]
    without = [week for week, found in tally.weeks.items() if not found]
    if without:
        warnings.append(f"{len(without)} of {max(tally.weeks) + 1} weeks have no fraud")
    missing = {name: 1 - seen.values / count for name, seen in tally.seen.items()}
    return Checked(count, frauds, frauds / count, missing, warnings)


@dataclass
class _Seen:
    """A feature's values so far: how many, and between what they lie."""

    values: int = 0
    low: float = np.inf
    high: float = -np.inf


@dataclass
class _Tally:
    """What is counted while files are read; `mature` is the newest time that a row may have, ms."""

    mature: int
    rows: int = 0
    frauds: int = 0
    digests: dict[int, str] = field(default_factory=dict)
    seen: dict[str, _Seen] = field(default_factory=lambda: {name: _Seen() for name in FEATURE_NAMES})
    weeks: dict[int, int] = field(default_factory=dict)  # week before `mature` → frauds

    def add(self, rows: pl.DataFrame) -> None:
        """Count a file's rows."""
        self.rows += len(rows)
        self.frauds += int(rows["is_fraud"].sum())
        self.digests |= hashes(rows)
        for name, seen in self.seen.items():
            values = rows[name].drop_nulls().to_numpy()
            if len(values):
                seen.values += len(values)
                # These two let NaN through, which Python's own don't.
                seen.low, seen.high = np.minimum(seen.low, values.min()), np.maximum(seen.high, values.max())
        week = (self.mature - pl.col("timestamp").dt.epoch("ms")) // WEEK_MS
        for number, frauds in rows.group_by(week.alias("week")).agg(pl.col("is_fraud").sum()).iter_rows():
            self.weeks[number] = self.weeks.get(number, 0) + frauds
