"""One training: fit, calibrate, choose the thresholds, judge."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fraud.booster import load_booster, margins
from fraud.calibration import fit_calibrator
from fraud.evaluation import Judgement, judge, not_yet_known
from fraud.features import FEATURE_NAMES, FEATURE_VERSION
from fraud.model import Bundle
from fraud.times import format_time
from fraud.training.boosting import Parameters, Say, fit_booster, quiet
from fraud.training.finals import finals
from fraud.training.histograms import reference_histograms
from fraud.training.parts import MIN_FRAUDS, Part, Shares, split
from fraud.training.rows import LabelledRows
from fraud.training.search import Search, search
from fraud.training.thresholds import BLOCK_PRECISION, Thresholds, choose_thresholds

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Scored:
    """A part's calibrated probabilities and the truth, shape (n,) each."""

    probabilities: npt.NDArray[np.float64]
    frauds: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Trained:
    """A bundle, and how it came about."""

    bundle: Bundle
    parts: dict[str, Part]
    thresholds: Thresholds
    judgement: Judgement
    scored: dict[str, Scored]  # the parts `threshold` and `judge`
    search: Search | None = None

    def report(self) -> dict[str, Any]:
        """Return plain data: parts, thresholds, metrics with floors and oracles, and what to know about BLOCK."""
        chosen = self.thresholds
        return {
            "parts": {name: part.to_dict() for name, part in self.parts.items()},
            "thresholds": {
                "review": chosen.review,
                "block": chosen.block,
                "f2": chosen.f2,
                "block_precision_bound": chosen.block_precision_bound,
                "note": _block_note(chosen),
            },
            "metrics": dict(self.judgement.values),
            "floors": dict(self.judgement.floors),
            "oracles": dict(self.judgement.oracles),
            "confusion": dict(self.judgement.confusion),
            "search": None if self.search is None else self.search.to_dict(),
        }


def train(
    rows: LabelledRows,
    parameters: Parameters | None = None,
    *,
    seed: int = 0,
    threads: int = 0,
    shares: Shares | None = None,
    min_frauds: int = MIN_FRAUDS,
    candidates: int = 0,
    say: Say = quiet,
) -> Trained:
    """Train on labelled rows; the same rows, parameters and seed give the same bundle, byte for byte.

    Args:
        rows: in any order of time; they are cut into four parts by it.
        parameters: the booster's; where a search finds better ones on the part `fit`, those.
        threads: 0: all cores.
        candidates: how many sets of parameters the search tries; 0: no search.
        say: told each step.

    Raises:
        ModelError: a part has too few frauds.
    """
    parameters = parameters or Parameters()
    parts = split(rows.times, rows.frauds, shares, min_frauds, until=rows.as_of - rows.maturity)
    fit, calibrate, threshold, judged = (part.index for part in parts.values())
    matrix = rows.matrix[fit]
    found = None
    if candidates:
        known = matrix, rows.times[fit], rows.frauds[fit]
        found = search(*known, candidates, seed=seed, threads=threads, say=say)
        found = finals(found, parameters, *known, seed=seed, threads=threads, say=say)
        parameters = found.best
    say(f"fitting {parameters.trees} trees of depth {parameters.depth} to {len(fit):,} rows")
    booster = fit_booster(matrix, rows.frauds[fit], parameters, seed=seed, threads=threads, say=say)
    say("calibrating, choosing thresholds, judging")
    loaded = load_booster(booster, FEATURE_NAMES)
    loaded.set_param({"nthread": threads})
    calibrator = fit_calibrator(margins(loaded, rows.matrix[calibrate]), rows.frauds[calibrate])
    scored = {
        name: Scored(calibrator.apply(margins(loaded, rows.matrix[index])), rows.frauds[index])
        for name, index in (("threshold", threshold), ("judge", judged))
    }
    chosen = choose_thresholds(scored["threshold"].probabilities, scored["threshold"].frauds)
    days = rows.times // DAY_MS
    judgement = judge(
        scored["judge"].probabilities,
        scored["judge"].frauds,
        chosen.review,
        days[judged],
        rows.cards[judged],
        not_yet_known(days, rows.cards, rows.frauds)[judged],
    )
    bundle = Bundle(
        booster=booster,
        calibrator=calibrator,
        feature_names=FEATURE_NAMES,
        feature_version=FEATURE_VERSION,
        review=chosen.review,
        block=chosen.block,
        window=_window(rows, parts),
        histograms=reference_histograms(matrix),
        metrics=judgement.to_dict(),
        params={
            **parameters.for_xgboost(len(fit), seed),
            "trees": parameters.trees,
            "smote_ratio": parameters.smote_ratio,
        },
        seed=seed,
    )
    return Trained(bundle, parts, chosen, judgement, scored, found)


def _window(rows: LabelledRows, parts: dict[str, Part]) -> dict[str, Any]:
    """Say what was known when, and which time each part covers."""
    return {
        "as_of": format_time(rows.as_of),
        "maturity_days": rows.maturity / DAY_MS,
        "from": format_time(int(rows.times.min())),
        "to": format_time(int(rows.times.max())),
        "parts": {name: part.to_dict() for name, part in parts.items()},
    }


def _block_note(chosen: Thresholds) -> str:
    """Say in words whether BLOCK is on, and why."""
    if chosen.block is not None:
        return f"BLOCK from {chosen.block:.4f} on: precision is at least {chosen.block_precision_bound:.3f} (95 %)"
    if chosen.block_precision_bound is None:
        return "BLOCK is off: no score lies above REVIEW"
    return (
        f"BLOCK is off: of the scores above REVIEW the surest is precise to at least "
        f"{chosen.block_precision_bound:.3f} (95 %), and {BLOCK_PRECISION} is asked for"
    )
