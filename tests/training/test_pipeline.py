"""A training is a function: same rows and seed, same bytes; nothing is judged on what was fitted."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fraud.errors import ConfigError, ModelError
from fraud.features import FEATURE_NAMES
from fraud.model import Bundle, Scorer
from fraud.training import LabelledRows, Parameters, Trained, train
from tests.training.synthetic import DAY, synthetic_rows

SMALL = Parameters(trees=20, depth=3, subsample=0.8, colsample=0.8)


@pytest.fixture(scope="module")
def rows() -> LabelledRows:
    return synthetic_rows()


@pytest.fixture(scope="module")
def trained(rows: LabelledRows) -> Trained:
    return train(rows, SMALL, seed=3, threads=1)


def test_the_same_rows_and_seed_give_the_same_bytes_whatever_the_threads(rows: LabelledRows, trained: Trained) -> None:
    again = train(rows, SMALL, seed=3, threads=2)
    assert again.bundle.to_bytes() == trained.bundle.to_bytes()
    assert train(rows, SMALL, seed=4, threads=1).bundle.booster != trained.bundle.booster


def test_hist_gives_the_same_bytes_too(rows: LabelledRows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fraud.training.boosting.EXACT_ROWS", 10)
    one, two = (train(rows, SMALL, seed=3, threads=n).bundle for n in (1, 2))
    assert one.params["tree_method"] == "hist"
    assert one.to_bytes() == two.to_bytes()


def test_the_bundle_is_served_as_it_was_judged(rows: LabelledRows, trained: Trained) -> None:
    bundle = Bundle.from_bytes(trained.bundle.to_bytes())
    judged = trained.parts["judge"].index
    flagged = Scorer(bundle).predict(rows.matrix[judged]) >= bundle.review
    counts = bundle.metrics["confusion"]
    assert int(flagged.sum()) == counts["tp"] + counts["fp"]
    assert int((flagged & rows.frauds[judged]).sum()) == counts["tp"]
    assert bundle.metrics["values"]["average_precision"] > 5 * bundle.metrics["floors"]["average_precision"]
    assert bundle.seed == 3


def test_the_judged_labels_change_nothing_but_the_judgement(rows: LabelledRows, trained: Trained) -> None:
    frauds = rows.frauds.copy()
    judged = trained.parts["judge"].index
    frauds[judged] = np.roll(frauds[judged], 7)
    other = train(replace(rows, frauds=frauds), SMALL, seed=3, threads=1)
    assert other.bundle.booster == trained.bundle.booster
    assert other.bundle.calibrator == trained.bundle.calibrator
    assert (other.bundle.review, other.bundle.block) == (trained.bundle.review, trained.bundle.block)
    assert other.judgement.values["average_precision"] < trained.judgement.values["average_precision"]


def test_rows_in_another_order_of_arrival_are_cut_by_time(rows: LabelledRows, trained: Trained) -> None:
    order = np.random.default_rng(1).permutation(len(rows.times))
    mixed = replace(
        rows, matrix=rows.matrix[order], times=rows.times[order], frauds=rows.frauds[order], cards=rows.cards[order]
    )
    parts = train(mixed, SMALL, seed=3, threads=1).parts
    for name, part in parts.items():
        assert sorted(mixed.times[part.index]) == sorted(rows.times[trained.parts[name].index])


def test_the_report_is_json_and_names_everything(trained: Trained) -> None:
    report = json.loads(json.dumps(trained.report(), allow_nan=False))
    assert list(report["parts"]) == ["fit", "calibrate", "threshold", "judge"]
    assert sum(part["rows"] for part in report["parts"].values()) == 6_000
    assert report["metrics"].keys() == report["floors"].keys() == report["oracles"].keys()
    assert report["thresholds"]["note"].startswith("BLOCK ")
    window = trained.bundle.window
    assert (window["as_of"], window["maturity_days"]) == ("2026-02-17T00:00:00.000Z", 7.0)


def test_the_histograms_hold_every_fitted_row(trained: Trained) -> None:
    fitted = len(trained.parts["fit"].index)
    assert tuple(trained.bundle.histograms) == FEATURE_NAMES
    for histogram in trained.bundle.histograms.values():
        assert sum(histogram["counts"]) + histogram["missing"] == fitted
        assert len(histogram["counts"]) == len(histogram["edges"]) + 1


def test_a_part_without_frauds_is_named_with_what_to_do(rows: LabelledRows) -> None:
    late = rows.times >= rows.times.min() + 36 * DAY
    few = replace(rows, frauds=rows.frauds & ~late)
    with pytest.raises(ModelError, match=r"part `judge` \(2026-02-0.* has \d+ frauds .* at least 30.*--min-frauds"):
        train(few, SMALL)


@pytest.mark.parametrize(
    "change", [{"trees": 0}, {"depth": 17}, {"eta": 0.0}, {"subsample": 1.1}, {"reg_lambda": -1.0}]
)
def test_parameters_out_of_range_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="trees ≥ 1"):
        Parameters(**change)
