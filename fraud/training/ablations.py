"""What each choice is worth on the Handbook's protocol: resampling, calibration, the booster's settings.

Calibrated on the week before the training week: its labels are known, and the booster hasn't seen it.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np

from fraud.booster import load_booster, margins
from fraud.calibration import fit_calibrator
from fraud.errors import ConfigError
from fraud.evaluation import calibration_error
from fraud.features import FEATURE_NAMES, Matrix
from fraud.training.boosting import BASE_SCORE, MAX_BIN, Parameters, Say, fit_booster, quiet
from fraud.training.protocol import PARAMETERS, TRAIN_DAYS, Week, cut, quality
from fraud.training.rows import LabelledRows

RATIOS = (0.05, 0.1, 0.5, 1.0)
SAME_SIZE = {"max_depth": PARAMETERS.depth, "eta": PARAMETERS.eta}
# What XGBoost is told beside the objective; the rest are its own defaults (depth 6, eta .3, 256 bins, a first
# score taken from the data).
LIBRARY: dict[str, dict[str, Any]] = {
    "library's defaults": {},
    "library's, our depth and eta": SAME_SIZE,
    "the same, first score .5": {**SAME_SIZE, "base_score": BASE_SCORE},
    "the same, 1024 bins": {**SAME_SIZE, "max_bin": MAX_BIN},
    "the same, first score .5 and 1024 bins": {**SAME_SIZE, "base_score": BASE_SCORE, "max_bin": MAX_BIN},
}

Fit = Callable[[Matrix, np.ndarray[Any, np.dtype[np.bool_]]], bytes]


def run_ablations(
    rows: LabelledRows, starts: Iterable[date], *, seed: int = 0, threads: int = 0, say: Say = quiet
) -> list[dict[str, Any]]:
    """Run the protocol once per variant and start of a training week.

    Returns:
        Per variant, as means over the weeks: {variant, auc, average_precision, card_precision_100, and before and
        after calibration: ece_raw, ece, brier_raw, brier}.

    Raises:
        ConfigError: the week before a training week isn't in the data.
    """
    weeks = [cut(rows, start) for start in starts]
    for week in weeks:
        if week.day.min() > -TRAIN_DAYS:
            raise ConfigError(f"calibrating for {week.start} needs the week before it, and the data begin later")
    found = []
    for variant, fit in _variants(seed, threads).items():
        figures = [_figures(rows, week, fit) for week in weeks]
        means = {name: float(np.mean([week[name] for week in figures])) for name in figures[0]}
        found.append({"variant": variant, **means})
        say(
            f"{variant}: average precision {means['average_precision']:.3f}, ECE {means['ece_raw']:.4f}, "
            f"calibrated {means['ece']:.4f}"
        )
    return found


def _variants(seed: int, threads: int) -> dict[str, Fit]:
    """Return name → how a booster is fitted."""

    def ours(parameters: Parameters) -> Fit:
        return lambda matrix, frauds: fit_booster(matrix, frauds, parameters, seed=seed, threads=threads)

    def library(settings: dict[str, Any]) -> Fit:
        return lambda matrix, frauds: _fit_library(matrix, frauds, {**settings, "seed": seed, "nthread": threads})

    return {
        "ours": ours(PARAMETERS),
        "ours, leaves pulled as by default": ours(replace(PARAMETERS, reg_lambda=1.0)),
        **{f"SMOTE ratio {ratio}": ours(replace(PARAMETERS, smote_ratio=ratio)) for ratio in RATIOS},
        **{name: library(settings) for name, settings in LIBRARY.items()},
    }


def _fit_library(matrix: Matrix, frauds: np.ndarray[Any, np.dtype[np.bool_]], settings: dict[str, Any]) -> bytes:
    import xgboost

    rows = xgboost.DMatrix(matrix, label=frauds.astype(np.float32), feature_names=list(FEATURE_NAMES))
    booster = xgboost.train({"objective": "binary:logistic", **settings}, rows, PARAMETERS.trees)
    return bytes(booster.save_raw("ubj"))


def _figures(rows: LabelledRows, week: Week, fit: Fit) -> dict[str, float]:
    """Return what a variant is worth in one week."""
    from sklearn.metrics import brier_score_loss

    booster = load_booster(fit(rows.matrix[week.training], rows.frauds[week.training]), FEATURE_NAMES)
    before = (week.day >= -TRAIN_DAYS) & (week.day < 0)
    calibrator = fit_calibrator(margins(booster, rows.matrix[before]), rows.frauds[before])
    scores, frauds = margins(booster, rows.matrix[week.test]), rows.frauds[week.test]
    raw, calibrated = 1 / (1 + np.exp(-scores.astype(np.float64))), calibrator.apply(scores)
    ranks = quality(rows, week, scores)
    return {
        **{name: ranks[name] for name in ("auc", "average_precision", "card_precision_100")},
        "ece_raw": calibration_error(raw, frauds),
        "ece": calibration_error(calibrated, frauds),
        "brier_raw": float(brier_score_loss(frauds, raw)),
        "brier": float(brier_score_loss(frauds, calibrated)),
    }
