"""Whether a training set can be trained on: counts, the rate of frauds, each feature's range."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fraud.dataset import Dataset, to_rows
from fraud.errors import DataError
from fraud.features import FEATURE_NAMES, FEATURES

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
    """Check a training set.

    Raises:
        DataError: with every fault that makes it unfit, a sentence each.
    """
    rows = to_rows(dataset)
    count, frauds = len(rows.times), int(rows.frauds.sum())
    faults = []
    if count != dataset.manifest.rows or frauds != dataset.manifest.frauds:
        faults.append(f"its files hold {count:,} rows and {frauds:,} frauds, its manifest says otherwise")
    if frauds == 0 or frauds == count:
        faults.append(f"{frauds:,} of {count:,} rows are frauds: there is one class only, nothing can be learnt")
    elif frauds / count >= MOST_FRAUDS:
        faults.append(f"{frauds / count:.0%} of the rows are frauds: labels can't be right")
    missing = {name: float(np.isnan(rows.matrix[:, i]).mean()) for i, name in enumerate(FEATURE_NAMES)}
    for i, name in enumerate(FEATURE_NAMES):
        values = rows.matrix[:, i][~np.isnan(rows.matrix[:, i])]
        low, high = RANGES.get(name, (-np.inf, np.inf))
        if len(values) and not (np.isfinite(values).all() and low <= values.min() and values.max() <= high):
            faults.append(f"{name} lies between {values.min():g} and {values.max():g}; {low:g} to {high:g} is possible")
    empty = [name for name, share in missing.items() if share == 1.0]
    if "amount" in empty or len(empty) == len(FEATURE_NAMES):
        faults.append(f"of {', '.join(empty)} there is no value")
    if faults:
        raise DataError(f"the training set {dataset.uri} can't be used: {'; '.join(faults)}")
    warnings = [f"{name} is missing in every row" for name in empty]
    weeks = (rows.times - rows.times.min()) // WEEK_MS
    without = [int(week) for week in np.unique(weeks) if not rows.frauds[weeks == week].any()]
    if without:
        warnings.append(f"{len(without)} of {int(weeks.max()) + 1} weeks have no fraud")
    return Checked(count, frauds, frauds / count, missing, warnings)
