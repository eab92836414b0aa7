"""A simulated world to judge in, and models trained in a fraction of a second each.

Sixty days of 2,000 users; the scenario `merchant_compromise` begins on day 25. What was known on day 30 knows
nothing of it; what was known on day 60 does.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np

from fraud.booster import load_booster, margins
from fraud.calibration import fit_calibrator
from fraud.evaluation import judge
from fraud.features import FEATURE_NAMES, FEATURE_VERSION
from fraud.model import Bundle
from fraud.times import format_time
from fraud.training import LabelledRows, Parameters, fit_booster, labelled_rows, split
from fraud.training.thresholds import choose_thresholds

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
DAY_MS = 86_400_000
EVERY = 25  # of the legitimate rows one in so many is fitted: a model in half a second
PARAMETERS = Parameters(trees=100, depth=3, subsample=0.8)


@cache
def simulation() -> Any:
    """Return the tables."""
    from producer.scenarios import choose
    from producer.simulate import Config, generate

    scenarios = choose(["stolen_card", "card_testing", "merchant_compromise@25"], [])
    return generate(Config(start=BEGIN, days=60, seed=3, users=2_000, merchants=400, scenarios=scenarios))


@cache
def known_on(day: int) -> LabelledRows:
    """Return the rows that are mature on a day of the simulation, as they were known then."""
    made = simulation()
    return labelled_rows(made.transactions, made.labels, BEGIN + timedelta(days=day))


@cache
def model(day: int, seed: int, trees: int = 100, *, shuffled: bool = False) -> Bundle:
    """Return a model of what was known on a day; `shuffled`: its labels say nothing."""
    rows = known_on(day)
    if shuffled:
        rows = replace(rows, frauds=np.random.default_rng(seed).permutation(rows.frauds))
    parts = split(rows.times, rows.frauds, min_frauds=20)
    fit, calibrate, threshold, judged = (part.index for part in parts.values())
    fit = fit[rows.frauds[fit] | (np.arange(len(fit)) % EVERY == 0)]
    booster = fit_booster(rows.matrix[fit], rows.frauds[fit], replace(PARAMETERS, trees=trees), seed=seed, threads=1)
    loaded = load_booster(booster, FEATURE_NAMES)
    calibrator = fit_calibrator(margins(loaded, rows.matrix[calibrate]), rows.frauds[calibrate])
    chosen = choose_thresholds(calibrator.apply(margins(loaded, rows.matrix[threshold])), rows.frauds[threshold])
    judgement = judge(
        calibrator.apply(margins(loaded, rows.matrix[judged])), rows.frauds[judged], chosen.review,
        rows.times[judged] // DAY_MS, rows.cards[judged], np.ones(len(judged), bool),
    )  # fmt: skip
    return Bundle(
        booster=booster,
        calibrator=calibrator,
        feature_names=FEATURE_NAMES,
        feature_version=FEATURE_VERSION,
        review=chosen.review,
        block=chosen.block,
        window={
            "as_of": format_time(rows.as_of),
            "maturity_days": rows.maturity / DAY_MS,
            "parts": {name: part.to_dict() for name, part in parts.items()},
        },
        metrics=judgement.to_dict(),
        seed=seed,
    )


def aged(bundle: Bundle, days: float) -> Bundle:
    """Return the same model, known so many days earlier: an old champion."""
    as_of = datetime.fromisoformat(bundle.window["as_of"]) - timedelta(days=days)
    return replace(bundle, window={**bundle.window, "as_of": format_time(round(as_of.timestamp() * 1000))})
