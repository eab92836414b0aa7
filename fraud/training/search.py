"""A random search over time-ordered folds: which parameters, and whether to resample.

Random search: Bergstra and Bengio, JMLR 13, 2012. Folds grow in time (`TimeSeriesSplit`): what judges a candidate
is later than what it was fitted to. Resampling is a step of the pipeline, so no synthetic row is ever scored.

Fits run side by side, each on one thread: measured on a busy machine of two cores, a fit of 60,000 rows on two
threads costs ten times the CPU of one on one thread, since OpenMP's threads spin while they wait for each other.
"""

import re
import threading
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fraud.errors import ModelError
from fraud.features import Matrix
from fraud.training.boosting import BASE_SCORE, Parameters, Say, quiet
from fraud.training.folds import FOLDS, ROWS, folds, sample

if TYPE_CHECKING:
    from imblearn.pipeline import Pipeline

MAX_BIN = 256  # of the search's histograms; candidates compare the same
RATIOS: tuple[float | None, ...] = (None, 0.02, 0.05, 0.1, 0.3)
_CAUSE = re.compile(r"^([\w.]*(?:Error|Exception)\b.*)$", re.MULTILINE)  # a traceback's last line


@dataclass(frozen=True)
class Candidate:
    """A set of parameters and its average precision in each fold; NaN where the fit failed.

    `seconds` is what its fits and scores took together, where that is known.
    """

    parameters: Parameters
    scores: tuple[float, ...]
    seconds: float | None = None

    @property
    def mean(self) -> float:
        return float(np.mean(self.scores))

    @property
    def failed(self) -> bool:
        return bool(np.isnan(self.mean))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; a failed fold's score is null."""
        scores = [None if np.isnan(score) else score for score in self.scores]
        mean = None if None in scores else self.mean
        return {**self.parameters.to_dict(), "folds": scores, "average_precision": mean, "seconds": self.seconds}


@dataclass(frozen=True)
class Search:
    """What was tried. Scores are of thinned rows: they compare candidates, and say nothing of all rows.

    Attributes:
        rows: looked at, `frauds` of them frauds, out of `of` rows.
        folds: that judged each candidate.
        failures: why candidates failed, each reason once.
        finals: the best candidates and the default, compared on all rows (`fraud.training.finals`); `best` is
            their winner then, and the best of `candidates` before.
    """

    candidates: tuple[Candidate, ...]
    best: Parameters
    rows: int
    frauds: int
    of: int
    folds: int = FOLDS
    failures: tuple[str, ...] = ()
    finals: tuple[Candidate, ...] = ()

    def ranked(self) -> tuple[Candidate, ...]:
        """Return the candidates, the best first, of equals the earlier; who failed comes last."""
        return tuple(sorted(self.candidates, key=lambda each: -np.nan_to_num(each.mean, nan=-1.0)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, the best candidate first."""
        return {
            "rows": self.rows,
            "frauds": self.frauds,
            "of_rows": self.of,
            "folds": self.folds,
            "failures": list(self.failures),
            "best": self.best.to_dict(),
            "finals": [finalist.to_dict() for finalist in self.finals],
            "candidates": [candidate.to_dict() for candidate in self.ranked()],
        }


def search(
    matrix: Matrix,
    times: npt.NDArray[np.int64],
    frauds: npt.NDArray[np.bool_],
    candidates: int,
    *,
    seed: int,
    threads: int,
    rows: int = ROWS,
    say: Say = quiet,
) -> Search:
    """Try parameters on the rows of a fit; the same rows and seed try the same and find the same.

    A candidate whose fit fails, for want of memory for instance, is out; the others go on.

    Args:
        matrix: shape (n, features), NaN is null; times: (n,), ms; frauds: (n,).
        threads: fits at a time; 0: as many as there are cores.
        rows: at most so many are looked at.

    Raises:
        ModelError: no candidate could be fitted in every fold, or no fold can judge any.
    """
    import joblib  # type: ignore[import-untyped]
    from sklearn.model_selection import RandomizedSearchCV

    chosen = sample(times, frauds, rows, seed)
    X, y = matrix[chosen], frauds[chosen].astype(np.int64)
    usable = folds(y)
    if len(usable) < FOLDS:
        say(f"{FOLDS - len(usable)} of {FOLDS} folds are out: too few frauds in what they fit or judge")
    say(f"searching {candidates} candidates in {len(usable)} folds over {len(chosen):,} of {len(matrix):,} rows")
    randomized = RandomizedSearchCV(
        pipeline(seed),
        _distributions(),
        n_iter=candidates,
        scoring=_Told(candidates, len(usable), say),
        cv=usable,
        refit=False,
        random_state=seed,
        error_score=np.nan,
        n_jobs=threads or -1,
    )
    # Threads, not processes: XGBoost works outside Python's lock, and one copy of the rows is enough.
    with joblib.parallel_backend("threading"), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")  # scikit-learn warns of a failed fit, with its traceback
        try:
            randomized.fit(X, y)
        except ValueError as exc:  # scikit-learn's: every fit failed
            why = "; ".join(_causes([exc])) or str(exc)
            raise ModelError(f"none of {candidates} candidates could be fitted: {why}") from exc
    failures = _causes([each.message for each in warned])
    tried = _candidates(randomized.cv_results_, len(usable))
    whole = [candidate for candidate in tried if not candidate.failed]
    if not whole:
        raise ModelError(f"none of {candidates} candidates could be fitted in every fold: {'; '.join(failures)}")
    if len(whole) < len(tried):
        say(f"{len(tried) - len(whole)} of {len(tried)} candidates failed and are out: {'; '.join(failures)}")
    best = max(whole, key=lambda candidate: candidate.mean)  # of equals the first
    say(f"the best candidate, average precision {best.mean:.4f} on the thinned rows: {best.parameters}")
    return Search(
        tuple(tried), best.parameters, len(chosen), int(y.sum()), len(matrix), folds=len(usable), failures=failures
    )


def _causes(told: Iterable[Warning | Exception | str]) -> tuple[str, ...]:
    """Return the last lines of the tracebacks that scikit-learn tells of, each once."""
    return tuple(dict.fromkeys(cause[:200] for each in told for cause in _CAUSE.findall(str(each))))


def pipeline(seed: int) -> "Pipeline":
    """Return sampler and booster as one estimator, with the settings that `fraud.training.boosting` gives.

    Always by histograms: `exact` takes eight times as long and ranks the candidates the same.
    """
    from imblearn.pipeline import Pipeline
    from xgboost import XGBClassifier

    from fraud.training.sampler import MissingAwareSMOTE

    model = XGBClassifier(
        objective="binary:logistic",
        base_score=BASE_SCORE,
        tree_method="hist",
        max_bin=MAX_BIN,
        random_state=seed,
        n_jobs=1,
    )
    return Pipeline([("sampler", MissingAwareSMOTE(random_state=seed)), ("model", model)])


def _distributions() -> dict[str, Any]:
    from scipy.stats import loguniform, uniform

    return {
        "sampler__ratio": list(RATIOS),
        "model__n_estimators": [100, 150, 200, 300],
        "model__max_depth": [3, 4, 5, 6],
        "model__learning_rate": loguniform(0.04, 0.2),
        "model__min_child_weight": [1.0, 3.0, 10.0],
        "model__subsample": uniform(0.6, 0.4),
        "model__colsample_bytree": uniform(0.5, 0.5),
        "model__reg_lambda": [0.0, 0.3, 1.0],
    }


def _candidates(results: dict[str, Any], count: int) -> list[Candidate]:
    """Read scikit-learn's table of `count` folds."""
    by_fold = [results[f"split{fold}_test_score"] for fold in range(count)]
    seconds = count * (results["mean_fit_time"] + results["mean_score_time"])
    return [
        Candidate(_parameters(chosen), tuple(float(scores[i]) for scores in by_fold), round(float(seconds[i]), 2))
        for i, chosen in enumerate(results["params"])
    ]


def _parameters(chosen: dict[str, Any]) -> Parameters:
    ratio = chosen["sampler__ratio"]
    return Parameters(
        trees=int(chosen["model__n_estimators"]),
        depth=int(chosen["model__max_depth"]),
        eta=float(chosen["model__learning_rate"]),
        min_child_weight=float(chosen["model__min_child_weight"]),
        subsample=float(chosen["model__subsample"]),
        colsample=float(chosen["model__colsample_bytree"]),
        reg_lambda=float(chosen["model__reg_lambda"]),
        smote_ratio=None if ratio is None else float(ratio),
    )


class _Told:
    """Average precision as a scorer that says how far the search is; fits end in any order."""

    def __init__(self, candidates: int, folds: int, say: Say) -> None:
        self._candidates, self._folds, self._say = candidates, folds, say
        self._scores: dict[str, list[float]] = {}
        self._ended = 0
        self._lock = threading.Lock()

    def __call__(self, estimator: Any, X: Matrix, y: npt.NDArray[np.int64]) -> float:
        from sklearn.metrics import average_precision_score

        score = float(average_precision_score(y, estimator.predict_proba(X)[:, 1]))
        chosen = estimator.get_params()
        key = repr([chosen[name] for name in _distributions()])
        with self._lock:
            scores = self._scores.setdefault(key, [])
            scores.append(score)
            if len(scores) == self._folds:
                self._ended += 1
                mean = np.mean(scores)
                self._say(f"candidate {self._ended} of {self._candidates}: average precision {mean:.4f}")
        return score
