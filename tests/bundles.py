"""Small real bundles for tests: a booster trained on random rows, seeded."""

from typing import Any

import numpy as np

from fraud.calibration import Calibrator
from fraud.features import FEATURE_NAMES, FEATURE_VERSION
from fraud.model import Bundle


def random_rows(n: int, seed: int = 0, width: int = len(FEATURE_NAMES)) -> tuple[Any, Any]:
    """Return a matrix (n, width) with a tenth missing, and labels that depend on its first columns."""
    rng = np.random.default_rng(seed)
    matrix = rng.gamma(2.0, 30.0, (n, width))
    risk = (matrix[:, 0] + matrix[:, 2] - 120.0) / 40.0 + rng.normal(0.0, 0.7, n)
    matrix[rng.random((n, width)) < 0.1] = np.nan
    return matrix, risk > 1.5


def tiny_booster(seed: int = 0, trees: int = 20, names: tuple[str, ...] = FEATURE_NAMES) -> bytes:
    """Return a booster (UBJ) trained on random rows."""
    import xgboost

    matrix, frauds = random_rows(4_000, seed, len(names))
    rows = xgboost.DMatrix(matrix, label=frauds, feature_names=list(names), nthread=1)
    params = {"objective": "binary:logistic", "max_depth": 3, "eta": 0.3, "base_score": 0.5, "nthread": 1}
    return bytes(xgboost.train(params, rows, trees).save_raw("ubj"))


def tiny_bundle(seed: int = 0, **changes: Any) -> Bundle:
    """Return a bundle with our feature names; `changes` replace its fields."""
    values: dict[str, Any] = {
        "booster": tiny_booster(seed),
        "calibrator": Calibrator(0.9, 1.1, -0.2),
        "feature_names": tuple(FEATURE_NAMES),
        "feature_version": FEATURE_VERSION,
        "review": 0.3,
        "block": 0.9,
        "seed": seed,
    }
    return Bundle(**(values | changes))
