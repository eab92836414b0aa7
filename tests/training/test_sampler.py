"""The sampler keeps columns, order, missing values and codes; what it adds lies between frauds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from imblearn.pipeline import Pipeline
from sklearn.base import clone
from sklearn.dummy import DummyClassifier

from fraud.errors import ModelError
from fraud.features import FEATURE_NAMES
from fraud.training.sampler import CONTINUOUS, MissingAwareSMOTE

WIDTH = len(FEATURE_NAMES)
CODES = ~CONTINUOUS


def matrix(seed: int, rows: int, missing: float) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = np.where(CONTINUOUS, random.normal(size=(rows, WIDTH)) * 100, random.integers(0, 30, (rows, WIDTH)))
    values[random.random((rows, WIDTH)) < missing] = np.nan
    return values


@given(
    seed=st.integers(0, 2**16),
    frauds=st.integers(2, 12),
    ratio=st.sampled_from([0.05, 0.3, 1.0]),
    missing=st.sampled_from([0.0, 0.2, 0.9]),
    empty=arrays.arrays(bool, WIDTH),
)
def test_a_synthetic_row_is_its_parent_but_for_continuous_values(
    seed: int, frauds: int, ratio: float, missing: float, empty: np.ndarray
) -> None:
    X = matrix(seed, 60, missing)
    X[:, empty] = np.nan
    y = np.zeros(60, np.float32)
    y[np.random.default_rng(seed).choice(60, frauds, replace=False)] = 1
    more, labels = MissingAwareSMOTE(ratio, random_state=seed).fit_resample(X, y)
    added = len(more) - 60
    assert added == max(round(ratio * (60 - frauds)) - frauds, 0)
    assert np.array_equal(more[:60], X, equal_nan=True)
    assert np.array_equal(labels[:60], y)
    assert labels[60:].all()
    known = X[y == 1]
    low, high = (
        np.nanmin(np.vstack([known, np.full(WIDTH, np.inf)]), 0),
        np.nanmax(np.vstack([known, np.full(WIDTH, -np.inf)]), 0),
    )
    for row in more[60:]:
        parents = (np.isnan(known) == np.isnan(row)).all(axis=1)
        parents &= ((known == row) | np.isnan(row) | CONTINUOUS).all(axis=1)
        assert parents.any(), "no fraud has these missing values, codes, flags and counts"
        given_ = ~np.isnan(row)
        assert (row[given_] >= low[given_] - 1e-9).all()
        assert (row[given_] <= high[given_] + 1e-9).all()


def test_the_same_seed_draws_the_same_rows_and_another_others() -> None:
    X, y = matrix(1, 200, 0.1), np.arange(200) % 20 == 0
    one, two, other = (MissingAwareSMOTE(0.5, random_state=seed).fit_resample(X, y)[0] for seed in (1, 1, 2))
    assert np.array_equal(one, two, equal_nan=True)
    assert not np.array_equal(one, other, equal_nan=True)


@pytest.mark.parametrize("ratio", [None, 0.01])
def test_nothing_is_added_where_nothing_is_asked(ratio: float | None) -> None:
    X, y = matrix(1, 100, 0.1), np.arange(100) % 10 == 0
    assert MissingAwareSMOTE(ratio).fit_resample(X, y)[0] is X


def test_one_fraud_and_a_ratio_out_of_range_are_refused() -> None:
    X = matrix(1, 100, 0.1)
    with pytest.raises(ModelError, match="1 frauds among 100 rows"):
        MissingAwareSMOTE(0.5).fit_resample(X, np.arange(100) == 7)
    with pytest.raises(ModelError, match="out of"):
        MissingAwareSMOTE(1.5).fit_resample(X, np.arange(100) % 10 == 0)


def test_a_pipeline_resamples_what_it_fits_and_nothing_that_it_scores() -> None:
    pipeline = Pipeline([("sampler", clone(MissingAwareSMOTE(1.0, random_state=1))), ("model", DummyClassifier())])
    X, y = matrix(1, 100, 0.1), np.arange(100) % 10 == 0
    pipeline.fit(X, y)
    assert pipeline["model"].class_prior_.tolist() == [0.5, 0.5]
    assert pipeline.predict_proba(X).shape == (100, 2)
