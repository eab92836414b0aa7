"""The only place that computes a feature: one table, one kernel, three callers.

The offline builder runs it over whole histories, the score job over a micro-batch with stored histories,
`score_one` over a single transaction. Time is the event's; nothing here reads a clock.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraud.features import kernel
from fraud.features.table import FEATURE_NAMES, FEATURES, INTEGER_FEATURES, Feature
from fraud.history import MAX_AGE_MS, MAX_ENTRIES, Entries, Events, Histories
from fraud.profiles import Profiles

MERCHANT_COLUMNS = slice(FEATURE_NAMES.index("merchant_txn_count_1d"), len(FEATURES))

# Raise the number when the arithmetic changes and the table doesn't.
FEATURE_VERSION = (
    "1-" + hashlib.sha256(repr((FEATURES, MAX_ENTRIES, MAX_AGE_MS, kernel.DELAY_QUARTERS)).encode()).hexdigest()[:8]
)

ACCEPTED, DUPLICATE, CONFLICTING = 0, 1, 2  # what the kernel says of an event

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Folded:
    """What came of folding events into histories.

    Attributes:
        matrix: shape (events, features), float64, NaN is null; rows of repeats are all NaN.
        status: shape (events,), int8: ACCEPTED, DUPLICATE or CONFLICTING.
        entries: working array; user i's new history is entries[start[i]:stop[i]], newest[i].
    """

    matrix: Matrix
    status: npt.NDArray[np.int8]
    entries: Entries
    start: npt.NDArray[np.int64]
    stop: npt.NDArray[np.int64]
    newest: npt.NDArray[np.int64]


def fold(events: Events, bounds: npt.NDArray[np.int64], histories: Histories) -> Folded:
    """Compute the user features of `events` in arrival order, each before it joins its user's history.

    Args:
        events: shape (n,), dtype EVENT, user after user, each in arrival order.
        bounds: shape (users + 1,), int64; user i owns events[bounds[i]:bounds[i + 1]].
        histories: the same users' histories before the first event.

    A transaction id that the history holds already is a repeat: it gets no features and leaves no trace.
    The merchant columns are left NaN; see `add_merchant_features`.
    """
    users = len(bounds) - 1
    matrix = np.full((len(events), len(FEATURES)), np.nan)
    status = np.zeros(len(events), np.int8)
    work = np.empty(len(histories.entries) + len(events), histories.entries.dtype)
    start, stop = np.empty(users, np.int64), np.empty(users, np.int64)
    newest = histories.newest.copy()
    kernel.fold(events, bounds, histories.entries, histories.bounds, matrix, status, work, start, stop, newest)
    return Folded(matrix, status, work, start, stop, newest)


def add_merchant_features(
    matrix: Matrix, times: npt.NDArray[np.int64], merchants: npt.NDArray[np.int64], profiles: Profiles
) -> None:
    """Fill the merchant columns of `matrix` in place (the one output argument).

    Args:
        matrix: shape (n, features), as made by `fold`.
        times: shape (n,), ms since the epoch.
        merchants: shape (n,), each row's index into `profiles`.
        profiles: the merchants' changes; only those effective by the row's quarter count.
    """
    kernel.merchants(times, merchants, profiles.changes, profiles.bounds, matrix, MERCHANT_COLUMNS.start)


__all__ = ["FEATURES", "FEATURE_NAMES", "FEATURE_VERSION", "INTEGER_FEATURES", "Feature", "Folded", "fold"]
