"""Which rows a search looks at, and which of them each fold fits and judges."""

import numpy as np
import numpy.typing as npt

from fraud.errors import ModelError

FOLDS = 3
# Rows that the search looks at: every fraud, and as many others as fit, thinned evenly over time. The final
# fit takes all.
ROWS = 80_000

Fold = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def sample(times: npt.NDArray[np.int64], frauds: npt.NDArray[np.bool_], rows: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the places of every fraud and of other rows drawn among all, together at most `rows`, in time order."""
    order = np.argsort(times, kind="stable")
    if len(order) <= rows:
        return order
    others = order[~frauds[order]]
    keep = frauds.copy()
    wanted = max(rows - int(frauds.sum()), 0)
    keep[np.random.default_rng(seed).choice(others, min(wanted, len(others)), replace=False)] = True
    return order[keep[order]]


def folds(frauds: npt.NDArray[np.int64]) -> list[Fold]:
    """Return the places that each fold fits and judges, of rows in time order; `frauds` (n,) are 0 and 1.

    A fold that fits fewer than two frauds or judges none can't compare candidates (a week without fraud, labels
    that began late): it is left out.

    Raises:
        ModelError: none is left.
    """
    from sklearn.model_selection import TimeSeriesSplit

    usable = [
        (fit, judged)
        for fit, judged in TimeSeriesSplit(FOLDS).split(frauds)
        if frauds[fit].sum() >= 2 and frauds[judged].any()
    ]
    if not usable:
        raise ModelError(
            f"none of {FOLDS} folds in time order has two frauds to fit and one to judge, among {frauds.sum()} frauds "
            f"of {len(frauds):,} rows: give more days, or --candidates 0"
        )
    return usable
