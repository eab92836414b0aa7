"""The two thresholds, chosen on rows that neither the booster nor the calibrator has seen."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraud.errors import ModelError
from fraud.evaluation import BETA

BLOCK_PRECISION = 0.90
CONFIDENCE = 0.95

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Thresholds:
    """REVIEW and BLOCK, and what they reached on the rows they were chosen on.

    Attributes:
        review: where F2 is greatest; of several the highest.
        f2: there.
        block: None: no score is precise enough.
        block_precision_bound: the lower bound at `block`; without it the best that any score above `review`
            reached (None: there is none).
    """

    review: float
    f2: float
    block: float | None
    block_precision_bound: float | None


def choose_thresholds(probabilities: Array, frauds: npt.NDArray[np.bool_]) -> Thresholds:
    """Choose REVIEW = argmax F2, BLOCK = the lowest score above it that is precise beyond doubt.

    Beyond doubt: the lower 95 % bound of precision (one-sided, Clopper and Pearson 1934, exact) among the
    rows at or above the score is at least .90. A threshold is a score that occurs; rows of equal score are
    never parted.

    Raises:
        ModelError: there are no frauds.
    """
    total = int(frauds.sum())
    if total == 0:
        raise ModelError(f"none of {len(frauds)} rows is a fraud; thresholds can't be chosen")
    scores, flagged, hits = cumulated(probabilities, frauds)
    f2 = (1 + BETA**2) * hits / (BETA**2 * total + flagged)
    best = int(np.argmax(f2))  # scores fall: the first maximum is the highest score
    bounds = precision_bound(hits[:best], flagged[:best])
    precise = np.flatnonzero(bounds >= BLOCK_PRECISION)
    lowest = int(precise[-1]) if len(precise) else None
    reached = bounds[lowest] if lowest is not None else bounds.max(initial=-1.0)
    return Thresholds(
        review=float(scores[best]),
        f2=float(f2[best]),
        block=None if lowest is None else float(scores[lowest]),
        block_precision_bound=float(reached) if best > 0 else None,
    )


def cumulated(
    probabilities: Array, frauds: npt.NDArray[np.bool_]
) -> tuple[Array, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the distinct scores from the highest down, and how many rows and frauds lie at or above each."""
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    return ranked[last], last + 1, np.cumsum(frauds[order], dtype=np.int64)[last]


def precision_bound(hits: npt.NDArray[np.int64], flagged: npt.NDArray[np.int64]) -> Array:
    """Return the one-sided lower 95 % bound of hits/flagged, by Clopper and Pearson.

    >>> precision_bound(np.array([0, 28, 29]), np.array([5, 28, 29])).round(4).tolist()
    [0.0, 0.8985, 0.9019]
    """
    from scipy.stats import beta

    lower = beta.ppf(1 - CONFIDENCE, np.maximum(hits, 1), flagged - hits + 1)
    return np.where(hits == 0, 0.0, lower)
