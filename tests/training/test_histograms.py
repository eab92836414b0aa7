"""Reference histograms count every value once."""

import numpy as np
import pytest

from fraud.features import FEATURE_NAMES
from fraud.training.histograms import reference_histograms


def histogram_of(values: list[float] | np.ndarray) -> dict[str, object]:
    matrix = np.full((len(values), len(FEATURE_NAMES)), np.nan)
    matrix[:, 0] = values
    return reference_histograms(matrix)["amount"]


def test_few_values_have_a_bin_each() -> None:
    assert histogram_of([1.0, 0.0, 1.0, np.nan]) == {"edges": [0.0, 1.0], "counts": [1, 2, 0], "missing": 1}
    assert histogram_of([np.nan, np.nan]) == {"edges": [], "counts": [0], "missing": 2}


def test_many_values_are_cut_at_quantiles() -> None:
    found = histogram_of(np.arange(2_000.0))
    edges, counts = found["edges"], found["counts"]
    assert isinstance(edges, list)
    assert isinstance(counts, list)
    assert len(edges) == 19
    assert counts == pytest.approx([100] * 20, abs=1)
    bins = np.bincount(np.searchsorted(edges, np.arange(2_000.0), side="left"), minlength=20)
    assert bins.tolist() == counts
