"""A search's last word: its best candidates and the default, once more, on all rows.

A search looks at thinned rows, and there a share of frauds, and with it a leaf's weight and SMOTE's ratio, mean
something else than on all rows: its winner can lose to the default (docs/training.md). Fits are the final one's,
but by histograms also where that one is exact: all finalists alike, in an eighth of the time.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fraud.booster import load_booster, margins
from fraud.errors import ModelError
from fraud.features import FEATURE_NAMES, Matrix
from fraud.training.boosting import Parameters, Say, fit_booster, quiet
from fraud.training.folds import Fold, folds
from fraud.training.search import Candidate, Search

FINALISTS = 2  # of the search's candidates, beside the default


def finals(
    found: Search,
    default: Parameters,
    matrix: Matrix,
    times: npt.NDArray[np.int64],
    frauds: npt.NDArray[np.bool_],
    *,
    seed: int,
    threads: int,
    say: Say = quiet,
) -> Search:
    """Return the search with its finals, and as `best` their winner: the highest mean average precision of the folds.

    The default wins where nobody is better. A finalist that the memory doesn't suffice for is out; where it suffices
    for none, the search's own best stays.

    Args:
        found: the search on the same rows.
        default: what is used where nothing is searched.
        matrix: shape (n, features), NaN is null; times: (n,), ms; frauds: (n,).
        threads: 0: all cores.
    """
    order = np.argsort(times, kind="stable")
    X, y = matrix[order], frauds[order]
    cut = folds(y.astype(np.int64))
    best = [each.parameters for each in found.ranked()[:FINALISTS] if not each.failed]
    chosen = list(dict.fromkeys([default, *best]))
    say(f"comparing the default with the best {len(chosen) - 1} candidates, on all {len(X):,} rows")
    judged = []
    for number, parameters in enumerate(chosen, 1):
        judged.append(_judged(parameters, X, y, cut, seed, threads))
        last = judged[-1]
        worth = "out, the memory doesn't suffice" if last.failed else f"average precision {last.mean:.4f}"
        say(f"finalist {number} of {len(chosen)}{' (the default)' if parameters == default else ''}: {worth}")
    able = [each for each in judged if not each.failed]
    winner = max(able, key=lambda each: each.mean).parameters if able else found.best  # of equals the first
    return replace(found, finals=tuple(judged), best=winner)


def _judged(
    parameters: Parameters, X: Matrix, y: npt.NDArray[np.bool_], cut: list[Fold], seed: int, threads: int
) -> Candidate:
    """Fit and judge in each fold; the scores are NaN from the first fold on that the memory doesn't suffice for."""
    from sklearn.metrics import average_precision_score

    scores = [float("nan")] * len(cut)
    for i, (fit, held) in enumerate(cut):
        try:
            fitted = fit_booster(X[fit], y[fit], parameters, seed=seed, threads=threads, exact=False)
        except ModelError:
            break  # for want of memory: the folds after need more
        booster = load_booster(fitted, FEATURE_NAMES)
        booster.set_param({"nthread": threads})
        scores[i] = float(average_precision_score(y[held], margins(booster, X[held])))
    return Candidate(parameters, tuple(scores))
