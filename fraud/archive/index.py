"""What the label clock looks up by the ten thousand: 64-bit keys with a row each, and the offsets that were seen."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt
import xxhash

Keys = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.void]
PAGE = 1 << 16  # offsets


def keys_of(users: Iterable[str], transactions: Iterable[str]) -> Keys:
    """Return the 64-bit key of each (user_id, transaction_id), shape (n,); no identifier holds the NUL between."""
    pairs = zip(users, transactions, strict=True)
    return np.array([xxhash.xxh3_64_intdigest(f"{user}\0{one}") for user, one in pairs], np.uint64)


class Index:
    """Keys → rows of one dtype, in sorted runs that are merged as they grow: 8 bytes and a row a key.

    A key that is added again keeps its first row, or takes the last one.

    >>> index = Index(np.dtype([("at", "i4")]), keep="last")
    >>> index.add(np.array([7, 7], np.uint64), np.array([(1,), (2,)], index.dtype))
    >>> found, rows = index.find(np.array([6, 7], np.uint64))
    >>> found.tolist(), rows["at"].tolist()
    ([False, True], [0, 2])
    """

    def __init__(self, dtype: np.dtype[np.void], *, keep: Literal["first", "last"]) -> None:
        self.dtype, self._keep = dtype, keep
        self._runs: list[tuple[Keys, Rows]] = []  # each more than twice as long as the next

    def __len__(self) -> int:
        return sum(len(keys) for keys, _ in self._runs)

    def add(self, keys: Keys, rows: Rows) -> None:
        """Add rows, in the order in which they are known; shapes (n,)."""
        if not len(keys):
            return
        self._runs.append(self._sorted(keys, rows))
        while len(self._runs) > 1 and 2 * len(self._runs[-1][0]) >= len(self._runs[-2][0]):
            newer, older = self._runs.pop(), self._runs.pop()
            merged = self._sorted(np.concatenate([older[0], newer[0]]), np.concatenate([older[1], newer[1]]))
            self._runs.append(merged)

    def find(self, keys: Keys) -> tuple[npt.NDArray[np.bool_], Rows]:
        """Return which keys are there, and their rows (zeros for the others); shapes (n,)."""
        found, rows = np.zeros(len(keys), bool), np.zeros(len(keys), self.dtype)
        for known, values in self._runs:
            at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            hit = known[at] == keys
            if self._keep == "first":
                hit &= ~found
            rows[hit] = values[at[hit]]
            found |= hit
        return found, rows

    def _sorted(self, keys: Keys, rows: Rows) -> tuple[Keys, Rows]:
        order = np.argsort(keys, kind="stable")
        keys, rows = keys[order], rows[order]
        chosen = np.ones(len(keys), bool)
        differs = keys[1:] != keys[:-1]
        if self._keep == "first":
            chosen[1:] = differs
        else:
            chosen[:-1] = differs
        return keys[chosen], rows[chosen]


class Seen:
    """Which offsets of which partitions were accepted: a byte each, by pages."""

    def __init__(self) -> None:
        self._pages: dict[tuple[str, int, int], npt.NDArray[np.bool_]] = {}

    def add(self, topic_id: str, partition: int, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Add a partition's offsets; return which weren't there and stand for the first time, shape (n,)."""
        new = np.zeros(len(offsets), bool)
        new[np.unique(offsets, return_index=True)[1]] = True
        pages = offsets // PAGE
        for number in np.unique(pages).tolist():
            page = self._pages.setdefault((topic_id, partition, number), np.zeros(PAGE, bool))
            mine = pages == number
            at = offsets[mine] % PAGE
            new[mine] &= ~page[at]
            page[at] = True
        return new

    def find(self, topic_id: str, partition: int, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which of a partition's offsets are there, shape (n,)."""
        found = np.zeros(len(offsets), bool)
        pages = offsets // PAGE
        for number in np.unique(pages).tolist():
            page = self._pages.get((topic_id, partition, number))
            if page is not None:
                mine = pages == number
                found[mine] = page[offsets[mine] % PAGE]
        return found

    def missing(self, topic_id: str, partition: int, start: int, end: int) -> npt.NDArray[np.int64]:
        """Return the offsets in [start, end) that aren't there."""
        found = []
        for number in range(start // PAGE, -(-end // PAGE)):
            page = self._pages.get((topic_id, partition, number))
            low, high = max(start - number * PAGE, 0), min(end - number * PAGE, PAGE)
            absent = np.arange(low, high) if page is None else low + np.flatnonzero(~page[low:high])
            found.append(absent + number * PAGE)
        return np.concatenate(found).astype(np.int64) if found else np.empty(0, np.int64)
