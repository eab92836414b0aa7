"""Answers as columns: how slices of them are taken and put together."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fraud.store.base import Answers


def empty() -> Answers:
    """Return no answers."""
    return Answers(np.empty(0, np.int64), np.empty(0, np.uint8), np.empty(0, np.uint64), [], [])


def take(answers: Answers, rows: npt.NDArray[np.int64]) -> Answers:
    """Return the answers at `rows`, in that order."""
    return Answers(
        answers.offsets[rows],
        answers.kinds[rows],
        answers.digests[rows],
        [answers.keys[row] for row in rows],
        [answers.values[row] for row in rows],
    )


def concatenate(parts: Sequence[Answers]) -> Answers:
    """Return the answers of all parts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return Answers(
        np.concatenate([part.offsets for part in parts]),
        np.concatenate([part.kinds for part in parts]),
        np.concatenate([part.digests for part in parts]),
        [key for part in parts for key in part.keys],
        [value for part in parts for value in part.values],
    )
