"""Ablations: every variant over the same weeks, calibrated on rows that nothing was fitted to."""

from datetime import date

import pytest

from fraud.errors import ConfigError
from fraud.training import LabelledRows, ablations
from fraud.training.ablations import run_ablations
from fraud.training.boosting import Parameters
from fraud.training.protocol import run_protocol
from tests.training.synthetic import synthetic_rows

SMALL = Parameters(trees=10, depth=3)


@pytest.fixture(scope="module")
def rows() -> LabelledRows:
    return synthetic_rows(6_000, days=30)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablations, "PARAMETERS", SMALL)
    monkeypatch.setattr(ablations, "RATIOS", (1.0,))


def test_each_variant_is_measured_before_and_after_calibration(rows: LabelledRows) -> None:
    start = [date(2026, 1, 9)]
    found = {each["variant"]: each for each in run_ablations(rows, start, threads=1)}
    assert {"ours", "SMOTE ratio 1.0", "library's defaults"} <= found.keys()
    mean = run_protocol(rows, start, SMALL, threads=1)["mean"]
    assert {name: found["ours"][name] for name in mean} == pytest.approx(mean)
    resampled = found["SMOTE ratio 1.0"]
    assert resampled["ece"] < resampled["ece_raw"]  # half of what it was fitted to were frauds
    assert resampled["brier"] < resampled["brier_raw"]


def test_a_week_without_one_before_it_cannot_be_calibrated(rows: LabelledRows) -> None:
    with pytest.raises(ConfigError, match="the week before it"):
        run_ablations(rows, [date(2026, 1, 3)], threads=1)
