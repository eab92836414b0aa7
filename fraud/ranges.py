"""Ranges of offsets [a, b) as arrays of shape (n, 2), int64, rising and apart: what was collected without a model."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Ranges = npt.NDArray[np.int64]

NONE: Ranges = np.empty((0, 2), np.int64)


def of(offsets: npt.NDArray[np.int64]) -> Ranges:
    """Return the ranges that hold exactly these offsets, given in rising order.

    >>> of(np.array([3, 4, 5, 9])).tolist()
    [[3, 6], [9, 10]]
    """
    if not len(offsets):
        return NONE
    breaks = np.flatnonzero(np.diff(offsets) != 1)
    starts = offsets[np.concatenate([[0], breaks + 1])]
    ends = offsets[np.concatenate([breaks, [len(offsets) - 1]])] + 1
    return np.stack([starts, ends], axis=1).astype(np.int64)


def joined(parts: Iterable[Ranges]) -> Ranges:
    """Return the ranges of all parts, given in any order; what touches or overlaps becomes one.

    >>> joined([np.array([[8, 9]]), np.array([[0, 3], [3, 5]])]).tolist()
    [[0, 5], [8, 9]]
    """
    rows = np.concatenate([NONE, *parts])
    if not len(rows):
        return NONE
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    reach = np.maximum.accumulate(rows[:, 1])
    first = np.concatenate([[True], rows[1:, 0] > reach[:-1]])
    last = np.concatenate([first[1:], [True]])
    return np.stack([rows[first, 0], reach[last]], axis=1)


def contain(ranges: Ranges, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Tell of each offset whether a range holds it.

    >>> contain(np.array([[3, 6], [9, 10]]), np.array([2, 3, 5, 6, 9])).tolist()
    [False, True, True, False, True]
    """
    inside: npt.NDArray[np.bool_] = np.searchsorted(ranges.ravel(), offsets, side="right") % 2 == 1
    return inside
