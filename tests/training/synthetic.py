"""Seeded rows to train on in a tenth of a second: risk grows with the amount and the merchant's fraud rate."""

import numpy as np
import pytest

from fraud.features import FEATURE_NAMES
from fraud.training import LabelledRows, search

DAY = 86_400_000
BEGIN = 1_767_225_600_000  # 2026-01-01


def synthetic_rows(count: int = 6_000, days: int = 40, seed: int = 0) -> LabelledRows:
    rng = np.random.default_rng(seed)
    matrix = rng.gamma(2.0, 30.0, (count, len(FEATURE_NAMES)))
    risk = matrix[:, 0] / 60 + matrix[:, -1] / 60 + rng.normal(0.0, 0.5, count)
    matrix[rng.random(matrix.shape) < 0.1] = np.nan
    times = np.sort(rng.integers(BEGIN, BEGIN + days * DAY, count))
    return LabelledRows(
        matrix=matrix,
        times=times,
        frauds=risk > 3.9,
        cards=rng.integers(0, 300, count),
        merchants=rng.integers(0, 60, count),
        as_of=BEGIN + (days + 7) * DAY,
        maturity=7 * DAY,
    )


def search_few_trees(monkeypatch: pytest.MonkeyPatch, *trees: int) -> None:
    """Keep the search's own distributions, but for the number of trees."""
    few = {**search._distributions(), "model__n_estimators": list(trees)}
    monkeypatch.setattr(search, "_distributions", lambda: few)
