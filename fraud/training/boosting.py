"""The booster: XGBoost with the settings that don't cost average precision."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fraud.errors import ConfigError, ModelError
from fraud.features import FEATURE_NAMES, Matrix

# XGBoost 3 with its defaults (base_score from the data, hist, 256 bins): AP .58 on the Handbook; with these .68 to .69.
BASE_SCORE = 0.5
MAX_BIN = 1024
EXACT_ROWS = 100_000  # above, `exact` takes many times as long as `hist`, for at most .01 of average precision
REPORT_EVERY = 50  # trees

Say = Callable[[str], None]


def quiet(_: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Parameters:
    """What may be chosen about the booster and the rows it is fitted to.

    Attributes:
        reg_lambda: pulls every leaf towards nothing, the smaller the leaf the more; frauds are few, and their leaves
            small (docs/training.md).
        smote_ratio: frauds per other row after resampling (`fraud.training.sampler`); None: as they are.

    Raises:
        ConfigError: a value is out of range.
    """

    trees: int = 300
    depth: int = 4
    eta: float = 0.1
    min_child_weight: float = 1.0
    subsample: float = 1.0
    colsample: float = 1.0
    reg_lambda: float = 1.0
    smote_ratio: float | None = None

    def __post_init__(self) -> None:
        whole = self.trees >= 1 and 1 <= self.depth <= 16 and min(self.min_child_weight, self.reg_lambda) >= 0
        if not whole or not all(0 < share <= 1 for share in (self.eta, self.subsample, self.colsample)):
            raise ConfigError(
                f"{self}: trees ≥ 1, depth 1…16, min_child_weight and reg_lambda ≥ 0, "
                "eta, subsample and colsample in (0, 1]"
            )
        if self.smote_ratio is not None and not 0 < self.smote_ratio <= 1:
            raise ConfigError(f"{self}: smote_ratio is None or in (0, 1]")

    def for_xgboost(self, rows: int, seed: int, *, exact: bool = True) -> dict[str, Any]:
        """Return XGBoost's parameters for a fit of so many rows; few are split exactly, unless `exact` is false."""
        method = (
            {"tree_method": "exact"} if exact and rows <= EXACT_ROWS else {"tree_method": "hist", "max_bin": MAX_BIN}
        )
        return {
            "objective": "binary:logistic",
            "base_score": BASE_SCORE,
            "max_depth": self.depth,
            "eta": self.eta,
            "min_child_weight": self.min_child_weight,
            "subsample": self.subsample,
            "colsample_bytree": self.colsample,
            "reg_lambda": self.reg_lambda,
            "seed": seed,
            **method,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def fit_booster(
    matrix: Matrix,
    frauds: npt.NDArray[np.bool_],
    parameters: Parameters,
    *,
    seed: int,
    threads: int,
    exact: bool = True,
    say: Say = quiet,
) -> bytes:
    """Return a booster (UBJ); the same rows, parameters and seed give the same bytes, whatever `threads` is.

    Args:
        matrix: shape (n, features), NaN is null.
        frauds: shape (n,).
        threads: 0: all cores.
        exact: false: by histograms, however few rows there are.
        say: told the progress every 50 trees.

    Raises:
        ModelError: the memory doesn't suffice.
    """
    import xgboost

    try:
        if parameters.smote_ratio is not None:
            matrix, frauds = _resampled(matrix, frauds, parameters.smote_ratio, seed, say)
        settings = parameters.for_xgboost(len(matrix), seed, exact=exact) | {"nthread": threads}
        return _boosted(matrix, frauds, parameters.trees, settings, say)
    except (MemoryError, xgboost.core.XGBoostError) as exc:
        if not isinstance(exc, MemoryError) and "bad_alloc" not in str(exc):
            raise
        raise ModelError(
            f"the memory doesn't suffice to fit {parameters.trees} trees of depth {parameters.depth} to "
            f"{len(matrix):,} rows: give the process more, or train on fewer days"
        ) from exc


def _resampled(
    matrix: Matrix, frauds: npt.NDArray[np.bool_], ratio: float, seed: int, say: Say
) -> tuple[Matrix, npt.NDArray[np.bool_]]:
    from fraud.training.sampler import MissingAwareSMOTE

    before = len(matrix)
    more = MissingAwareSMOTE(ratio, random_state=seed).fit_resample(matrix, frauds)
    say(f"{len(more[0]) - before:,} synthetic frauds beside {before:,} rows")
    return more


def _boosted(matrix: Matrix, frauds: npt.NDArray[np.bool_], trees: int, settings: dict[str, Any], say: Say) -> bytes:
    import xgboost

    rows = xgboost.DMatrix(
        matrix,
        label=frauds.astype(np.float32),
        missing=np.nan,
        feature_names=list(FEATURE_NAMES),
        nthread=settings["nthread"],
    )
    booster = xgboost.Booster(settings, [rows])
    for tree in range(trees):
        booster.update(rows, tree)
        if (tree + 1) % REPORT_EVERY == 0 and tree + 1 < trees:
            say(f"{tree + 1} of {trees} trees")
    return bytes(booster.save_raw("ubj"))
