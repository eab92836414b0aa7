"""The compiled forest gives XGBoost's margins, bit for bit, or none."""

from typing import Any

import numpy as np
import pytest
import xgboost

from fraud.booster import load_booster, margins
from fraud.features import FEATURE_NAMES
from fraud.forest import ROWS, compile_forest, take_over
from fraud.model import Scorer
from tests.bundles import random_rows, tiny_booster, tiny_bundle

WIDTH = len(FEATURE_NAMES)


def trained(seed: int = 0, trees: int = 30, **params: Any) -> bytes:
    matrix, frauds = random_rows(3_000, seed)
    rows = xgboost.DMatrix(matrix, label=frauds, nthread=1)
    usual = {"objective": "binary:logistic", "eta": 0.3, "nthread": 1, "base_score": 0.5}
    return bytes(xgboost.train(usual | params, rows, trees).save_raw("ubj"))


@pytest.mark.parametrize("depth", [0, 1, 2, 4, 8])
@pytest.mark.parametrize("params", [{}, {"base_score": 0.02}, {"num_parallel_tree": 3, "subsample": 0.5}, {"gamma": 5}])
def test_it_is_bit_equal_on_rows_and_on_thresholds(depth: int, params: dict[str, Any]) -> None:
    booster = load_booster(
        trained(depth, max_depth=depth, grow_policy="lossguide", max_leaves=40, **params), FEATURE_NAMES
    )
    forest = compile_forest(bytes(booster.save_raw("json")), WIDTH)
    assert forest is not None
    matrix, _ = random_rows(ROWS * 3 + 7, seed=99)
    for rows in (matrix, matrix[:1], np.asfortranarray(matrix), matrix[::3], forest.trying(), matrix[:0]):
        assert forest.margins(rows).tobytes() == margins(booster, rows).tobytes()


def test_what_is_tried_reaches_every_threshold_from_both_sides() -> None:
    booster = load_booster(tiny_booster(), FEATURE_NAMES)
    forest = compile_forest(bytes(booster.save_raw("json")), WIDTH)
    assert forest is not None
    rows = forest.trying()
    column = int(forest.features[0] % WIDTH)
    near = rows[:, column][np.abs(rows[:, column] - forest.thresholds[0]) < 1e-4 * abs(forest.thresholds[0])]
    assert len(np.unique(near)) >= 3
    assert 0.1 < np.isnan(rows).mean() < 0.3


@pytest.mark.parametrize("params", [{"booster": "dart"}, {"booster": "gblinear"}, {"objective": "reg:squarederror"}])
def test_what_is_no_plain_forest_stays_xgboosts(params: dict[str, Any]) -> None:
    raw = trained(**params)
    booster = load_booster(raw, FEATURE_NAMES)
    assert compile_forest(bytes(booster.save_raw("json")), WIDTH) is None


def test_a_forest_that_differs_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(document: bytes, width: int) -> Any:
        forest = compile_forest(document, width)
        assert forest is not None
        forest.values[-1] += 1e-3
        return forest

    matrix, _ = random_rows(500, seed=3)
    right = Scorer(tiny_bundle(), take_over)
    assert right.compiled is not None
    monkeypatch.setattr("fraud.forest.compile_forest", broken)
    scorer = Scorer(tiny_bundle(), take_over)
    assert scorer.compiled is None
    assert scorer.predict(matrix).tobytes() == right.predict(matrix).tobytes()
