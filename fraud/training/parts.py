"""Four parts in time order, so that nothing is chosen, calibrated or judged on rows that came before it."""

from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt

from fraud.errors import ConfigError, ModelError
from fraud.times import format_time

NAMES = ("fit", "calibrate", "threshold", "judge")
MIN_FRAUDS = 30  # BLOCK's bound of .90 needs 29 frauds without a false alarm
JUDGED_MS = 7 * 86_400_000  # the gate decides nothing on fewer than seven whole days


@dataclass(frozen=True)
class Shares:
    """How many of the rows each part gets.

    Raises:
        ConfigError: a share isn't positive, or they don't add up to 1.
    """

    fit: float = 0.55
    calibrate: float = 0.15
    threshold: float = 0.15
    judge: float = 0.15

    def __post_init__(self) -> None:
        if min(astuple(self)) <= 0 or abs(sum(astuple(self)) - 1) > 1e-9:
            raise ConfigError(f"the shares {astuple(self)} must be positive and add up to 1")


@dataclass(frozen=True)
class Part:
    """One part: `index` (n,) are its rows' places in the whole, `begin` ≤ time < `end` (ms) its time."""

    name: str
    index: npt.NDArray[np.int64]
    frauds: int
    begin: int
    end: int

    def to_dict(self) -> dict[str, int | str]:
        """Return its size and its time as plain data."""
        return {
            "rows": len(self.index),
            "frauds": self.frauds,
            "from": format_time(self.begin),
            "to": format_time(self.end),
        }


def split(
    times: npt.NDArray[np.int64],
    frauds: npt.NDArray[np.bool_],
    shares: Shares | None = None,
    min_frauds: int = MIN_FRAUDS,
    *,
    until: int | None = None,
) -> dict[str, Part]:
    """Cut rows into four parts by time; rows of one millisecond stay together.

    `judge` covers at least the last seven days before `until`, where that leaves half of the rows to the others.

    Args:
        times: shape (n,), ms; in any order.
        frauds: shape (n,).
        shares: of the rows; default 55, 15, 15 and 15 %.
        min_frauds: what each part needs.
        until: where the mature rows end, ms; None: the parts are cut by their shares alone.

    Raises:
        ModelError: a part has too few frauds, or nothing else; the message names it.
    """
    if len(times) == 0:
        raise ModelError("there are no rows to train on")
    shares = shares or Shares()
    ordered = np.sort(times)
    ends = _ends(ordered, shares, until)
    bounds = [int(ordered[0]), *ends, int(ordered[-1]) + 1]
    parts = {}
    for name, begin, end in zip(NAMES, bounds[:-1], bounds[1:], strict=True):
        index = np.flatnonzero((times >= begin) & (times < end))
        found = int(frauds[index].sum())
        parts[name] = Part(name, index, found, begin, end)
        if found < min_frauds or found == len(index):
            raise ModelError(
                f"the part `{name}` ({format_time(begin)} to {format_time(end)}) has {found} frauds among "
                f"{len(index):,} rows; each part needs at least {min_frauds}, and other rows beside them: "
                "give more days, or a lower --min-frauds"
            )
    return parts


def _ends(ordered: npt.NDArray[np.int64], shares: Shares, until: int | None) -> list[int]:
    """Return where the first three parts end, ms; `ordered` are the rows' times, rising."""
    sums = np.cumsum(astuple(shares))
    *others, judge = (int(ordered[min(i, len(ordered) - 1)]) for i in _rows(sums[:-1], len(ordered)))
    week = judge if until is None else min(judge, until - JUDGED_MS)
    before = int(np.searchsorted(ordered, week))
    if week == judge or 2 * before < len(ordered):
        return [*others, judge]
    return [*(int(ordered[i]) for i in _rows(sums[:2] / sums[2], before)), week]


def _rows(shares: npt.NDArray[np.float64], rows: int) -> npt.NDArray[np.int64]:
    return np.round(shares * rows).astype(np.int64)
