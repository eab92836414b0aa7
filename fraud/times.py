"""The messages' timestamps as milliseconds since the epoch, UTC."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from fraud.schema import TIME_PATTERN

_TIME = re.compile(TIME_PATTERN)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def parse_time(text: str) -> int:
    """Return ms since the epoch of a timestamp as the messages have it.

    Raises:
        ValueError: it isn't `YYYY-MM-DDTHH:MM:SS[.mmm]Z`, not in the calendar, or not in 2000 to 2100.

    >>> parse_time("2026-01-31T10:00:00.123Z")
    1769853600123
    """
    if _TIME.search(text) is None:
        raise ValueError(f"{text[:40]!r} is not a time like 2026-01-31T10:00:00.123Z in the years 2000 to 2100")
    return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND


def parse_times(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return ms since the epoch, shape (n,), of texts that a decoder has checked already.

    NumPy's own parser: a third of `parse_time`'s cost, and it isn't strict about the format.
    """
    return np.array([text[:-1] for text in texts], dtype="datetime64[ms]").astype(np.int64)


def format_time(ms: int) -> str:
    """Return the timestamp of `ms` since the epoch, always with milliseconds.

    >>> format_time(1769853600000)
    '2026-01-31T10:00:00.000Z'
    """
    return (_EPOCH + ms * _MILLISECOND).isoformat(timespec="milliseconds")[:-6] + "Z"
