"""How each feature was distributed when the model was fitted: what drift is measured against."""

from typing import Any

import numpy as np

from fraud.features import FEATURE_NAMES, Matrix

DISTINCT = 24  # up to so many values each has its own bin: every hour of the day
QUANTILES = np.linspace(0.05, 0.95, 19)


def reference_histograms(matrix: Matrix) -> dict[str, dict[str, Any]]:
    """Return each feature's histogram: {edges, counts, missing}.

    Bin i holds edges[i - 1] < x ≤ edges[i]; the first and the last are open. Few distinct values are edges
    themselves, of many their 5 % quantiles are. `counts` has one element more than `edges`.
    """
    return {name: _histogram(matrix[:, column]) for column, name in enumerate(FEATURE_NAMES)}


def _histogram(values: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    present = np.sort(values[~np.isnan(values)])
    missing = len(values) - len(present)
    if len(present) == 0:
        return {"edges": [], "counts": [0], "missing": missing}
    distinct = present[np.append(True, present[1:] != present[:-1])]
    edges = distinct
    if len(distinct) > DISTINCT:
        edges = np.unique(np.quantile(present, QUANTILES, method="lower"))
    below = np.searchsorted(present, edges, side="right")
    counts = np.diff(below, prepend=0, append=len(present))
    return {"edges": edges.tolist(), "counts": counts.tolist(), "missing": missing}
