"""The Fraud Detection Handbook's protocol: train seven days, wait seven, test seven, day by day.

Labels are known seven days after the transaction; cards that are known to be compromised leave the test.
Source: Le Borgne et al., Reproducible Machine Learning for Credit Card Fraud Detection, chapters 3 to 5.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from fraud.booster import load_booster, margins
from fraud.errors import ConfigError
from fraud.evaluation import card_precision_quality, not_yet_known, ranking_quality
from fraud.features import FEATURE_NAMES
from fraud.training.boosting import Parameters, Say, fit_booster, quiet
from fraud.training.rows import LabelledRows

DAY_MS = 86_400_000
TRAIN_DAYS = DELAY_DAYS = TEST_DAYS = 7
WHOLE = TRAIN_DAYS + DELAY_DAYS + TEST_DAYS
# Chosen on the six weeks before those that are reported (docs/training.md).
PARAMETERS = Parameters(trees=100, depth=3, eta=0.1, reg_lambda=0.0)
# The best that the book reports, on its own four weeks (training from 25 July 2018).
BOOK = {"auc": 0.872, "average_precision": 0.694, "card_precision_100": 0.304}
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Week:
    """One run of the protocol: each row's day from `start` on, and which rows are trained on and tested, (n,) each."""

    start: date
    day: npt.NDArray[np.int64]
    training: npt.NDArray[np.bool_]
    test: npt.NDArray[np.bool_]


def newest_weeks(rows: LabelledRows, count: int = 4) -> list[date]:
    """Return the first training days of the newest `count` weeks that the rows can judge, oldest first.

    Raises:
        ConfigError: the rows cover less than three weeks.
    """
    first, end = int(rows.times.min()) // DAY_MS, int(rows.times.max()) // DAY_MS + 1
    starts = [end - WHOLE - 7 * week for week in range(count)]
    held = [_EPOCH + timedelta(days=day) for day in reversed(starts) if day >= first]
    if not held:
        raise ConfigError(f"the rows cover {end - first} days; the protocol needs {WHOLE}")
    return held


def run_protocol(
    rows: LabelledRows,
    starts: Iterable[date],
    parameters: Parameters = PARAMETERS,
    *,
    seed: int = 0,
    threads: int = 0,
    say: Say = quiet,
) -> dict[str, Any]:
    """Run the protocol once per start of a training week.

    Args:
        rows: the whole data, with the truth as labels.

    Returns:
        {weeks: [{start, rows, frauds, auc, average_precision, card_precision_100, floor, oracle}], and the
        means over the weeks: mean, floor, oracle; book}.

    Raises:
        ConfigError: a week lies outside the data, or has no frauds.
    """
    weeks = []
    for start in starts:
        week = _week(rows, start, parameters, seed, threads)
        say(f"{start}: average precision {week['average_precision']:.3f}, AUC {week['auc']:.3f}")
        weeks.append(week)
    names = ("auc", "average_precision", "card_precision_100")
    return {
        "weeks": weeks,
        "mean": {name: float(np.mean([week[name] for week in weeks])) for name in names},
        "floor": {name: float(np.mean([week["floor"][name] for week in weeks])) for name in names},
        "oracle": {name: float(np.mean([week["oracle"][name] for week in weeks])) for name in names},
        "book": BOOK,
    }


def cut(rows: LabelledRows, start: date) -> Week:
    """Return which rows a training week from `start` on uses.

    Raises:
        ConfigError: the week lies outside the data, or has no frauds.
    """
    midnight = round(datetime.combine(start, time(), UTC).timestamp() * 1000)
    day = (rows.times - midnight) // DAY_MS
    if day.min() > 0 or day.max() < WHOLE - 1:
        raise ConfigError(
            f"training from {start} needs {WHOLE} days of data; they run from day {day.min()} to {day.max()}"
        )
    training = (day >= 0) & (day < TRAIN_DAYS)
    # Frauds before the training week are forgotten, as in the book.
    seen = np.flatnonzero(day >= 0)
    unknown = np.zeros(len(day), bool)
    unknown[seen] = not_yet_known(day[seen], rows.cards[seen], rows.frauds[seen], DELAY_DAYS)
    test = unknown & (day >= TRAIN_DAYS + DELAY_DAYS) & (day < WHOLE)
    for name, part in (("training", training), ("test", test)):
        if not 0 < rows.frauds[part].sum() < part.sum():
            raise ConfigError(
                f"the {name} week of {start} has {rows.frauds[part].sum()} frauds among {part.sum()} rows"
            )
    return Week(start, day, training, test)


def quality(rows: LabelledRows, week: Week, scores: npt.NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Return how well `scores`, one for each row of the test, rank them.

    Returns:
        {auc, average_precision, card_precision_100, floor, oracle}
    """
    from sklearn.metrics import roc_auc_score

    frauds = rows.frauds[week.test]
    ranking = ranking_quality(scores, frauds)
    of_cards = card_precision_quality(week.day[week.test], rows.cards[week.test], scores, frauds)
    return {
        "auc": float(roc_auc_score(frauds, scores)),
        "average_precision": ranking["value"],
        "card_precision_100": of_cards["value"],
        "floor": {"auc": 0.5, "average_precision": ranking["floor"], "card_precision_100": of_cards["floor"]},
        "oracle": {"auc": 1.0, "average_precision": ranking["oracle"], "card_precision_100": of_cards["oracle"]},
    }


def _week(rows: LabelledRows, start: date, parameters: Parameters, seed: int, threads: int) -> dict[str, Any]:
    """Train on one week and test on another, two weeks later."""
    week = cut(rows, start)
    matrix, frauds = rows.matrix[week.training], rows.frauds[week.training]
    booster = fit_booster(matrix, frauds, parameters, seed=seed, threads=threads)
    scores = margins(load_booster(booster, FEATURE_NAMES), rows.matrix[week.test])
    sizes = {"rows": int(week.test.sum()), "frauds": int(rows.frauds[week.test].sum())}
    return {"start": start.isoformat(), **sizes, **quality(rows, week, scores)}
