"""Pictures and card of a training: all there, readable, the same for the same training."""

from io import BytesIO

import numpy as np
import pytest
from matplotlib.image import imread

from fraud.training import Parameters, Trained, train
from fraud.training.card import model_card
from fraud.training.plots import plots
from tests.training.synthetic import synthetic_rows


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train(synthetic_rows(), Parameters(trees=10), seed=1, threads=1)


def test_every_plot_is_a_picture_with_something_in_it_and_always_the_same(trained: Trained) -> None:
    drawn = plots(trained)
    assert {name.removeprefix("plots/") for name in drawn} == {
        "precision_recall.png",
        "roc.png",
        "reliability.png",
        "scores_by_class.png",
        "feature_importance.png",
        "threshold_f2.png",
    }
    for raw in drawn.values():
        assert len(np.unique(imread(BytesIO(raw)))) > 20
    assert plots(trained) == drawn


def test_the_card_has_every_figure_beside_floor_and_oracle(trained: Trained) -> None:
    report = trained.report()
    card = model_card(report, {"as_of": "2026-02-17", "seed": 1})
    for name, value in report["metrics"].items():
        figures = f"| {value:.4f} | {report['floors'][name]:.4f} | {report['oracles'][name]:.4f} |"
        assert f"| {name} {figures}" in card
    assert f"REVIEW from {report['thresholds']['review']:.4f}" in card
    assert f"| fraud | {report['confusion']['tp']:,} | {report['confusion']['fn']:,} |" in card
    assert "candidates" not in card
    assert "2 candidates were tried over 3 folds" in model_card(
        train(synthetic_rows(), seed=1, threads=1, candidates=2).report(), {"as_of": "x"}
    )
