"""Up to where a partition was answered: the contiguous end of the answers that exist, gaps of the topic aside."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraud import ranges

# (start, end) → the first offset in [start, end) that holds a record, None if none does.
Readable = Callable[[int, int], int | None]


@dataclass(frozen=True)
class Reached:
    """Where a partition goes on.

    Attributes:
        position: the next offset to decide.
        expired: how many offsets below it have no answer and can't get one: the topic doesn't hold them any more.
    """

    position: int
    expired: int = 0


def reached(answered: npt.NDArray[np.int64], *, begin: int, readable: Readable) -> Reached:
    """Return where a partition goes on.

    Args:
        answered: the offsets that were answered, or accepted without a model; in any order, repeats do no harm.
            What lies before the first was never to be decided: the job began there.
        begin: the topic's first offset.
        readable: asks the broker; only about what lies between answers.
    """
    known = ranges.of(np.unique(answered))
    if not len(known):
        return Reached(begin)
    expired = 0
    for end, start in zip(known[:-1, 1].tolist(), known[1:, 0].tolist(), strict=True):
        if readable(max(end, begin), start) is not None:
            return Reached(max(end, begin), expired + max(0, begin - end))
        expired += max(0, min(begin, start) - end)
    end = int(known[-1, 1])
    return Reached(max(end, begin), expired + max(0, begin - end))
