"""Small real models for tests: trained in a fraction of a second, never loaded from a file."""

from functools import lru_cache

import numpy as np

from fraud.calibration import Calibrator
from fraud.features import FEATURE_NAMES, FEATURE_VERSION
from fraud.model import Bundle


@lru_cache(maxsize=8)
def small_bundle(seed: int = 0, review: float = 0.2, block: float | None = 0.9) -> Bundle:
    """Return a bundle of 20 trees over random rows whose risk grows with amount and novelty."""
    import xgboost

    rng = np.random.default_rng(seed)
    X = rng.normal(size=(2000, len(FEATURE_NAMES)))
    X[:, 0] = rng.lognormal(3, 1, 2000)
    X[rng.random(X.shape) < 0.1] = np.nan
    risk = np.nan_to_num(X[:, 0]) / 200 + np.nan_to_num(X[:, 15]) * 0.2 + rng.normal(0, 0.1, 2000)
    booster = xgboost.train(
        {"max_depth": 3, "objective": "binary:logistic", "base_score": 0.5, "seed": seed, "nthread": 1},
        xgboost.DMatrix(X, (risk > 0.4).astype(float)),
        num_boost_round=20,
    )
    return Bundle(
        booster=bytes(booster.save_raw("ubj")),
        calibrator=Calibrator(1.0, 1.0, 0.0),
        feature_names=FEATURE_NAMES,
        feature_version=FEATURE_VERSION,
        review=review,
        block=block,
        seed=seed,
    )
