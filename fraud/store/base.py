"""What scoring needs to remember, as three protocols that every online store implements.

* `Histories`: per partition of the topic `transactions`, the users' histories, the position reached,
  the finished answers (the outbox) and what was collected. They change together, in one conditional commit.
* `Profiles`: the merchants' changes, `profile_through` and the last batch applied. They become visible together.
* `Serving`: the model in production, its bytes content-addressed, and the pointer to it.

Implementations: memory (tests), LMDB (one machine), Redis (several). One contract test holds for all.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt


class PartitionKey(NamedTuple):
    """A partition of one incarnation of a topic: a recreated topic has another id."""

    topic_id: str
    partition: int


class Kind(IntEnum):
    """What an answer is."""

    PREDICTION = 0
    REJECTION = 1


@dataclass(frozen=True)
class Answers:
    """Finished answers in offset order, as columns of equal length.

    `digests` are the 64-bit digests of the source messages' raw values: a replayed message with another
    digest isn't the message that was answered.
    """

    offsets: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.uint8]
    digests: npt.NDArray[np.uint64]
    keys: list[bytes | None]
    values: list[bytes]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class SliceCommit:
    """One slice's outcome, committed whole or not at all."""

    key: PartitionKey
    epoch: int  # the lease's, as the driver acquired it
    expected: int  # the position that was read before the slice was processed
    position: int  # the position after it
    histories: Mapping[str, bytes]  # user_id -> packed history (fraud.history)
    answers: Answers
    committed_at: int  # ms since the epoch; the outbox keeps the last ten minutes by it
    # Accepted without a model, so without an answer: offset ranges [a, b), shape (n, 2), rising and apart.
    collected: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Lease:
    """A named right to write. `epoch` grows by one with every new holder."""

    name: str
    owner: str  # unique per process start
    epoch: int
    expires_at: int  # ms since the epoch
    host: str
    pid: int


@dataclass(frozen=True)
class Pointer:
    """The model in production. `sequence` grows with every flip, rollbacks included."""

    sequence: int
    sha256: str  # of the bundle's bytes
    model_name: str
    model_version: str
    flipped_at: int  # ms since the epoch


class Histories(Protocol):
    """Histories, positions and outbox; the single writer per partition is fenced by the lease's epoch."""

    def acquire(self, name: str, owner: str, *, host: str, pid: int, now: int, ttl: int) -> Lease:
        """Take the lease if it is free, expired, or its holder's; times in ms.

        Raises:
            FencedError: somebody else holds it; the message names host, pid and what to do.
        """

    def renew(self, lease: Lease, *, now: int, ttl: int) -> Lease:
        """Prolong the lease; raises FencedError if it has gone to somebody else."""

    def release(self, lease: Lease) -> None:
        """Give the lease back if it is still ours (the epoch stays); never raises for a lost one."""

    def leases(self) -> dict[str, Lease]:
        """Return every lease that was ever taken and not released, by name."""

    def start(self, positions: Mapping[PartitionKey, int], lease: Lease) -> None:
        """Store first positions, and marks equal to them; FencedError if any position exists already."""

    def positions(self) -> dict[PartitionKey, int]:
        """Return the next offset to process of every partition."""

    def marks(self) -> dict[PartitionKey, int]:
        """Return per partition the offset below which a checkpoint says everything was published."""

    def read(self, partition: int, users: Sequence[str]) -> list[bytes | None]:
        """Return the packed histories of `users`, None where there is none."""

    def commit(self, commit: SliceCommit) -> None:
        """Write histories, position, answers and collected ranges in one transaction.

        Raises:
            FencedError: the position isn't `expected`, or the epoch isn't the lease's; nothing is written.
            StoreFullError: no room; nothing is written.
        """

    def answers(self, key: PartitionKey, start: int, end: int) -> Answers:
        """Return the outbox's answers with start <= offset < end, in offset order; absent ones are absent."""

    def collected(self, key: PartitionKey) -> npt.NDArray[np.int64]:
        """Return the offset ranges [a, b) that were accepted without a model: int64, shape (n, 2), rising and apart.

        They have no answer and get none. They stay for good: no trimming touches them.
        """

    def set_marks(self, marks: Mapping[PartitionKey, int], lease: Lease) -> None:
        """Raise the marks (never lowers one); FencedError if the lease is lost."""

    def trim(self, lease: Lease, *, committed_before: int) -> int:
        """Drop chunks wholly below the mark and committed before this time (ms); return how many answers."""

    def load(self, partition: int, histories: Iterable[tuple[str, bytes]]) -> int:
        """Bulk-write histories (backfill); return how many."""

    def users(self, partition: int) -> Iterable[tuple[str, bytes]]:
        """Iterate over every user's packed history in a partition."""

    def wipe(self) -> None:
        """Remove histories, positions, marks, outbox and collected ranges; the leases' epochs stay."""


class Profiles(Protocol):
    """Merchant profiles: packed changes (fraud.profiles) per merchant, and how far they reach."""

    def through(self) -> int | None:
        """Return `profile_through`: the newest transaction quarter archived, None before any."""

    def read(self, merchants: Sequence[str]) -> tuple[list[bytes | None], int | None]:
        """Return the packed profiles and `profile_through`, from one snapshot."""

    def applied(self) -> str | None:
        """Return the marker of the last batch applied, None before any and after a load that named none."""

    def load(self, profiles: Iterable[tuple[str, bytes]], through: int, applied: str | None = None) -> int:
        """Write whole profiles, `profile_through` and the marker, visible together; return how many profiles."""

    def apply(
        self,
        changes: Mapping[str, npt.NDArray[np.void]],
        through: int | None,
        *,
        expected: str | None,
        applied: str,
        keep_from: int | None,
    ) -> None:
        """Merge a batch's changes into the merchants' profiles; all of it becomes visible together.

        Args:
            changes: merchant → changes, dtype `fraud.profiles.CHANGE`, in any order; those of one
                (quarter, effective) are summed with each other and with the stored ones.
            through: the new `profile_through`; None leaves it as it is.
            expected, applied: the batch's marker takes the place of the one before it.
            keep_from: changes of earlier quarters go, in these merchants; None keeps them all.

        Raises:
            FencedError: the stored marker isn't `expected`; nothing is written.
            StoreFullError: no room; nothing is written.
        """

    def merchants(self) -> Iterable[tuple[str, bytes]]:
        """Iterate over every packed profile."""

    def wipe(self) -> None:
        """Remove every profile, `profile_through` and the marker."""


class Serving(Protocol):
    """The model in production."""

    def pointer(self) -> Pointer | None:
        """Return the pointer, None before any model."""

    def bundle(self, sha256: str) -> bytes:
        """Return a bundle's bytes; StoreError if it isn't there or its hash differs."""

    def publish(self, bundle: bytes, pointer: Pointer, *, expected_sequence: int) -> None:
        """Write the bundle, then flip the pointer if its sequence is still `expected_sequence` (0: none yet).

        Bundles other than the new one and the one before it go. FencedError if another flip came first.
        """


@dataclass(frozen=True)
class Headroom:
    """How full a part of the store is."""

    part: str
    used: int  # bytes
    limit: int | None  # bytes; None: unbounded


@dataclass(frozen=True)
class Store:
    """The three parts and how to close them."""

    histories: Histories
    profiles: Profiles
    serving: Serving
    close: "Closer"
    headroom: "HeadroomReader"
    url: str = field(default="memory:")
    # Frees what readers that were killed still hold; only LMDB has such readers.
    check_readers: Callable[[], None] = field(default=lambda: None)


class Closer(Protocol):
    """Closes every part; safe to call twice."""

    def __call__(self) -> None: ...


class HeadroomReader(Protocol):
    """Reads how full each part is."""

    def __call__(self) -> list[Headroom]: ...
