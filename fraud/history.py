"""A user's history as bytes: what the online store keeps and the feature kernel reads.

A value is the newest time ever seen (8 bytes, little endian, ms) followed by packed entries in arrival
order. The newest time stands apart because its entry can leave through the 512 limit. Identifiers are
64-bit hashes (`fraud.codec.hash_id`): inside one history of at most 512 entries a chance collision has a
probability below 1e-14.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraud.errors import StoreError

MAX_ENTRIES = 512  # the last arrivals that count
MAX_AGE_MS = 37 * 86_400_000  # 30 days of window and 7 days of lateness

# One accepted transaction. `merchant`, `device`, `txn`: 64-bit hashes, 0 is null; `country`: 0 is null;
# `lat`, `lon`: degrees, both NaN where the position is unknown; `time`: ms since the epoch, UTC.
ENTRY = np.dtype(
    [
        ("time", "<i8"),
        ("amount", "<f8"),
        ("merchant", "<u8"),
        ("device", "<u8"),
        ("lat", "<f8"),
        ("lon", "<f8"),
        ("txn", "<u8"),
        ("digest", "<u8"),
        ("country", "<u2"),
    ]
)
# An arriving transaction: an entry, and what only its own features need. -1 is null.
EVENT = np.dtype([*ENTRY.descr, ("channel", "<i2"), ("mcc", "<i2")])

HEADER = 8
NEVER = np.iinfo(np.int64).min  # the newest time of a user without history
_NEVER = int(NEVER).to_bytes(HEADER, "little", signed=True)

Entries = npt.NDArray[np.void]  # of dtype ENTRY
Events = npt.NDArray[np.void]  # of dtype EVENT


@dataclass(frozen=True)
class Histories:
    """Several users' histories side by side.

    Attributes:
        entries: all entries, shape (total,), dtype ENTRY, user after user, each in arrival order.
        bounds: shape (users + 1,), int64; user i owns entries[bounds[i]:bounds[i + 1]].
        newest: shape (users,), int64; the newest time seen, NEVER without history.
    """

    entries: Entries
    bounds: npt.NDArray[np.int64]
    newest: npt.NDArray[np.int64]


def unpack(values: Sequence[bytes | None]) -> Histories:
    """Lay packed histories side by side; None is a user without history.

    Raises:
        StoreError: a value isn't a header followed by whole entries.
    """
    sizes = np.fromiter((HEADER if value is None else len(value) for value in values), np.int64, len(values))
    payload = sizes - HEADER
    if len(values) and (payload.min() < 0 or (payload % ENTRY.itemsize).any()):
        raise StoreError(
            "a stored history isn't a whole number of entries; the online store was written by another "
            "version or is damaged: make it anew with `fraud-detect rebuild`"
        )
    bounds = np.zeros(len(values) + 1, np.int64)
    np.cumsum(payload // ENTRY.itemsize, out=bounds[1:])
    newest = np.frombuffer(b"".join([_NEVER if value is None else value[:HEADER] for value in values]), "<i8")
    # Views: the payloads are copied once.
    joined = b"".join([memoryview(value)[HEADER:] for value in values if value is not None])
    return Histories(np.frombuffer(joined, ENTRY), bounds, newest)


def pack(newest: int, entries: Entries) -> bytes:
    """Return one history's bytes; the inverse of `unpack`.

    >>> one = np.zeros(1, ENTRY)
    >>> back = unpack([pack(7, one)])
    >>> int(back.newest[0]), len(back.entries)
    (7, 1)
    """
    return int(newest).to_bytes(HEADER, "little", signed=True) + entries.tobytes()


def pack_all(
    newest: npt.NDArray[np.int64], entries: Entries, start: npt.NDArray[np.int64], stop: npt.NDArray[np.int64]
) -> list[bytes]:
    """Return the bytes of several histories; history i is newest[i] and entries[start[i]:stop[i]].

    >>> both = np.zeros(2, ENTRY)
    >>> pack_all(np.array([7]), both, np.array([1]), np.array([2])) == [pack(7, both[1:])]
    True
    """
    heads = newest.astype("<i8").tobytes()
    raw = np.ascontiguousarray(entries).view(np.uint8).data
    size = ENTRY.itemsize
    return [
        b"".join((heads[at : at + HEADER], raw[begin:end]))
        for at, begin, end in zip(
            range(0, len(heads), HEADER), (start * size).tolist(), (stop * size).tolist(), strict=True
        )
    ]
