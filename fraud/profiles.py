"""A merchant's profile as bytes: a list of changes, each with the quarter from which it counts.

A change says that `transactions` and `frauds` of the merchant's quarter-hour `quarter` differ by so much,
and that reads from the quarter `effective` on may know it. A read ignores what isn't effective yet, so a
profile that already holds the future gives the same answer as one that doesn't.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fraud.errors import StoreError

QUARTER_MS = 900_000  # a quarter-hour
GRACE_QUARTERS = 2  # between a record's own quarter and the first read that may count it

# Quarters are counted from the epoch (UTC). Sorted by (quarter, effective).
CHANGE = np.dtype([("quarter", "<i4"), ("effective", "<i4"), ("transactions", "<i4"), ("frauds", "<i4")])


@dataclass(frozen=True)
class Profiles:
    """Several merchants' changes side by side.

    Attributes:
        changes: shape (total,), dtype CHANGE, merchant after merchant, each sorted by quarter.
        bounds: shape (merchants + 1,), int64; merchant i owns changes[bounds[i]:bounds[i + 1]].
    """

    changes: npt.NDArray[np.void]
    bounds: npt.NDArray[np.int64]


def unpack(values: Sequence[bytes | None]) -> Profiles:
    """Lay packed profiles side by side; None is a merchant without one.

    Raises:
        StoreError: a value isn't a whole number of changes.
    """
    sizes = np.fromiter((0 if value is None else len(value) for value in values), np.int64, len(values))
    if (sizes % CHANGE.itemsize).any():
        raise StoreError(
            "a stored merchant profile isn't a whole number of changes; the online store was written by "
            "another version or is damaged: make it anew with `fraud-detect rebuild`"
        )
    bounds = np.zeros(len(values) + 1, np.int64)
    np.cumsum(sizes // CHANGE.itemsize, out=bounds[1:])
    return Profiles(np.frombuffer(b"".join([v for v in values if v is not None]), CHANGE), bounds)


def merge(
    stored: Sequence[bytes | None], changes: Sequence[npt.NDArray[np.void]], keep_from: int | None
) -> list[bytes]:
    """Return the packed profiles with the changes merged in, one per merchant.

    Args:
        stored: packed profiles, None for a merchant without one.
        changes: each merchant's, shape (n,), dtype CHANGE, in any order.
        keep_from: changes of earlier quarters are left out; None: of none.

    Raises:
        StoreError: as `unpack`.
    """
    known = unpack(stored)
    numbers = np.arange(len(stored))
    given = np.fromiter(map(len, changes), np.int64, len(changes))
    rows = np.concatenate([known.changes, *(part.astype(CHANGE, copy=False) for part in changes)])
    who = np.concatenate([np.repeat(numbers, np.diff(known.bounds)), np.repeat(numbers, given)])
    if keep_from is not None:
        kept = rows["quarter"] >= keep_from
        rows, who = rows[kept], who[kept]
    order = np.lexsort((rows["effective"], rows["quarter"], who))
    rows, who = rows[order], who[order]
    first = np.ones(len(rows), bool)
    for column in (who, rows["quarter"], rows["effective"]):
        first[1:] &= column[1:] == column[:-1]
    first[1:] = ~first[1:]
    at = np.flatnonzero(first)
    merged = rows[at]
    for name in ("transactions", "frauds"):
        merged[name] = np.add.reduceat(rows[name], at) if len(at) else 0
    bounds = np.searchsorted(who[at], np.arange(len(stored) + 1)) * CHANGE.itemsize
    raw = merged.tobytes()
    return [raw[a:b] for a, b in pairwise(bounds.tolist())]


def quarter_of(time_ms: int) -> int:
    """Return the quarter-hour a time lies in, counted from the epoch.

    >>> quarter_of(900_000)
    1
    """
    return time_ms // QUARTER_MS


def are_stale(times_ms: npt.NDArray[np.int64], through: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which reads at these times may have missed changes that were effective by then.

    Exact where `through`, the newest transaction quarter archived, is at least the quarter before the
    read's (design: the grace of two quarters).

    >>> are_stale(np.array([9_000_000, 9_000_000]), np.array([9, 8])).tolist()
    [False, True]
    """
    stale: npt.NDArray[np.bool_] = through < times_ms // QUARTER_MS - 1
    return stale
