"""The online store in this process's memory: for tests and for one-off calculations. Nothing survives it."""

import threading
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fraud import profiles, ranges
from fraud.store import fence, flips, leases, outbox
from fraud.store.base import Answers, Headroom, Lease, PartitionKey, Pointer, SliceCommit, Store
from fraud.store.leases import Held


def open_memory() -> Store:
    """Return an empty store."""
    return Store(
        histories=MemoryHistories(),
        profiles=MemoryProfiles(),
        serving=MemoryServing(),
        close=lambda: None,
        headroom=lambda: [Headroom(part, 0, None) for part in ("histories", "profiles", "serving")],
        url="memory:",
    )


class MemoryHistories:
    """Histories, positions and outbox in dictionaries under one lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leases: dict[str, Held] = {}
        self._positions: dict[PartitionKey, int] = {}
        self._marks: dict[PartitionKey, int] = {}
        self._users: dict[int, dict[str, bytes]] = {}
        self._outbox: dict[PartitionKey, list[bytes]] = {}
        self._collected: dict[PartitionKey, npt.NDArray[np.int64]] = {}

    def acquire(self, name: str, owner: str, *, host: str, pid: int, now: int, ttl: int) -> Lease:
        """See `fraud.store.base.Histories.acquire`."""
        with self._lock:
            held = leases.take(name, self._leases.get(name), owner=owner, host=host, pid=pid, now=now, ttl=ttl)
            self._leases[name] = held
        return held.lease(name)

    def renew(self, lease: Lease, *, now: int, ttl: int) -> Lease:
        """See `fraud.store.base.Histories.renew`."""
        with self._lock:
            held = leases.prolong(self._leases.get(lease.name), lease, now=now, ttl=ttl)
            self._leases[lease.name] = held
        return held.lease(lease.name)

    def release(self, lease: Lease) -> None:
        """See `fraud.store.base.Histories.release`."""
        with self._lock:
            held = leases.give_back(self._leases.get(lease.name), lease)
            if held is not None:
                self._leases[lease.name] = held

    def leases(self) -> dict[str, Lease]:
        """See `fraud.store.base.Histories.leases`."""
        with self._lock:
            return {name: held.lease(name) for name, held in self._leases.items() if not held.released}

    def start(self, positions: Mapping[PartitionKey, int], lease: Lease) -> None:
        """See `fraud.store.base.Histories.start`."""
        with self._lock:
            self._require(lease)
            if self._positions:
                raise fence.already_started(self._positions)
            self._positions.update(positions)
            self._marks.update(positions)

    def positions(self) -> dict[PartitionKey, int]:
        """See `fraud.store.base.Histories.positions`."""
        with self._lock:
            return dict(self._positions)

    def marks(self) -> dict[PartitionKey, int]:
        """See `fraud.store.base.Histories.marks`."""
        with self._lock:
            return dict(self._marks)

    def read(self, partition: int, users: Sequence[str]) -> list[bytes | None]:
        """See `fraud.store.base.Histories.read`."""
        with self._lock:
            known = self._users.get(partition, {})
            return [known.get(user) for user in users]

    def commit(self, commit: SliceCommit) -> None:
        """See `fraud.store.base.Histories.commit`."""
        fence.check_order(commit)
        chunks = [chunk for _, chunk in outbox.pack(commit.answers, commit.committed_at)]
        with self._lock:
            held = self._leases.get(leases.SCORE)
            fence.check_fence(commit, self._positions.get(commit.key), None if held is None else held.epoch)
            self._users.setdefault(commit.key.partition, {}).update(commit.histories)
            self._outbox.setdefault(commit.key, []).extend(chunks)
            if commit.collected is not None:
                self._collected[commit.key] = ranges.joined(
                    [self._collected.get(commit.key, ranges.NONE), commit.collected]
                )
            self._positions[commit.key] = commit.position

    def answers(self, key: PartitionKey, start: int, end: int) -> Answers:
        """See `fraud.store.base.Histories.answers`."""
        with self._lock:
            chunks = list(self._outbox.get(key, []))
        return outbox.unpack(chunks, start, end)

    def collected(self, key: PartitionKey) -> npt.NDArray[np.int64]:
        """See `fraud.store.base.Histories.collected`."""
        with self._lock:
            return self._collected.get(key, ranges.NONE)

    def set_marks(self, marks: Mapping[PartitionKey, int], lease: Lease) -> None:
        """See `fraud.store.base.Histories.set_marks`."""
        with self._lock:
            self._require(lease)
            for key in marks:
                if key not in self._marks:
                    raise fence.unknown_partition(key)
            for key, mark in marks.items():
                self._marks[key] = max(mark, self._marks[key])

    def trim(self, lease: Lease, *, committed_before: int) -> int:
        """See `fraud.store.base.Histories.trim`."""
        dropped = 0
        with self._lock:
            self._require(lease)
            for key, chunks in self._outbox.items():
                kept = []
                for chunk in chunks:
                    head = outbox.head(chunk)
                    if head.last < self._marks[key] and head.committed_at < committed_before:
                        dropped += head.rows
                    else:
                        kept.append(chunk)
                self._outbox[key] = kept
        return dropped

    def load(self, partition: int, histories: Iterable[tuple[str, bytes]]) -> int:
        """See `fraud.store.base.Histories.load`."""
        rows = list(histories)
        with self._lock:
            self._users.setdefault(partition, {}).update(rows)
        return len(rows)

    def users(self, partition: int) -> Iterable[tuple[str, bytes]]:
        """See `fraud.store.base.Histories.users`."""
        with self._lock:
            return list(self._users.get(partition, {}).items())

    def wipe(self) -> None:
        """See `fraud.store.base.Histories.wipe`."""
        with self._lock:
            for part in (self._positions, self._marks, self._users, self._outbox, self._collected):
                part.clear()

    def _require(self, lease: Lease) -> None:
        leases.require_score(lease)
        leases.require(self._leases.get(lease.name), lease)


class MemoryProfiles:
    """Merchant profiles in a dictionary."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._merchants: dict[str, bytes] = {}
        self._through: int | None = None
        self._applied: str | None = None

    def through(self) -> int | None:
        """See `fraud.store.base.Profiles.through`."""
        return self._through

    def read(self, merchants: Sequence[str]) -> tuple[list[bytes | None], int | None]:
        """See `fraud.store.base.Profiles.read`."""
        with self._lock:
            return [self._merchants.get(merchant) for merchant in merchants], self._through

    def applied(self) -> str | None:
        """See `fraud.store.base.Profiles.applied`."""
        return self._applied

    def load(self, profiles: Iterable[tuple[str, bytes]], through: int, applied: str | None = None) -> int:
        """See `fraud.store.base.Profiles.load`."""
        rows = list(profiles)
        with self._lock:
            self._merchants.update(rows)
            self._through, self._applied = through, applied
        return len(rows)

    def apply(
        self,
        changes: Mapping[str, npt.NDArray[np.void]],
        through: int | None,
        *,
        expected: str | None,
        applied: str,
        keep_from: int | None,
    ) -> None:
        """See `fraud.store.base.Profiles.apply`."""
        with self._lock:
            fence.check_applied(self._applied, expected)
            stored = [self._merchants.get(merchant) for merchant in changes]
            merged = profiles.merge(stored, list(changes.values()), keep_from)
            self._merchants.update(zip(changes, merged, strict=True))
            self._applied = applied
            if through is not None:
                self._through = through

    def merchants(self) -> Iterable[tuple[str, bytes]]:
        """See `fraud.store.base.Profiles.merchants`."""
        with self._lock:
            return list(self._merchants.items())

    def wipe(self) -> None:
        """See `fraud.store.base.Profiles.wipe`."""
        with self._lock:
            self._merchants.clear()
            self._through = self._applied = None


class MemoryServing:
    """The model in production, in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bundles: dict[str, bytes] = {}
        self._flipped: flips.Flipped | None = None

    def pointer(self) -> Pointer | None:
        """See `fraud.store.base.Serving.pointer`."""
        return None if self._flipped is None else self._flipped.pointer

    def bundle(self, sha256: str) -> bytes:
        """See `fraud.store.base.Serving.bundle`."""
        return flips.check_bundle(self._bundles.get(sha256), sha256)

    def publish(self, bundle: bytes, pointer: Pointer, *, expected_sequence: int) -> None:
        """See `fraud.store.base.Serving.publish`."""
        flips.check_pointer(bundle, pointer)
        with self._lock:
            flipped = flips.flip(self._flipped, pointer, expected_sequence=expected_sequence)
            self._bundles[pointer.sha256] = bundle
            self._flipped = flipped
            self._bundles = {sha: raw for sha, raw in self._bundles.items() if sha in flipped.kept}
