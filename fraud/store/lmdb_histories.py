"""Histories, positions and outbox in an LMDB environment per partition; leases and marks in one beside them.

A commit is one transaction of its partition's environment, so partitions don't wait for each other: LMDB has one
writer at a time. What fences it lies there too: a copy of the lease's epoch, which whoever takes the lease writes
into every partition before it holds it. A mark is written after the partition's position: it says that there is one.
Locks are taken in one order, the leases' before a partition's.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import lmdb
import numpy as np

from fraud import ranges
from fraud.errors import FencedError, StoreError
from fraud.store import fence, leases, outbox
from fraud.store.base import Answers, Headroom, Lease, PartitionKey, SliceCommit
from fraud.store.leases import Held
from fraud.store.lmdb_environment import Environment
from fraud.store.lmdb_keys import (
    EPOCH,
    NUMBER,
    PARTITION,
    chunks_of,
    collected_prefix,
    extend_collected,
    heads,
    lease_key,
    number,
    number_key,
    numbers,
    outbox_prefix,
    prefixed,
    scan,
    user_keys,
)

_LOAD_BATCH = 5_000  # users in one write transaction: a job that commits waits for no longer
_TRIM_BATCH = 256  # chunks


class LmdbHistories:
    """What the score job remembers; a partition's writers are serialised over all processes by LMDB's lock."""

    def __init__(self, environment: Environment) -> None:
        self._env = environment
        self._partitions: dict[int, Environment] = {}

    def acquire(self, name: str, owner: str, *, host: str, pid: int, now: int, ttl: int) -> Lease:
        """See `fraud.store.base.Histories.acquire`."""
        with self._env.write() as txn:
            held = leases.take(name, _held(txn, name), owner=owner, host=host, pid=pid, now=now, ttl=ttl)
            if name == leases.SCORE:
                for partition in self._stored():
                    with partition.write() as inner:
                        inner.put(EPOCH, NUMBER.pack(held.epoch))
            txn.put(lease_key(name), leases.pack(held))
        return held.lease(name)

    def renew(self, lease: Lease, *, now: int, ttl: int) -> Lease:
        """See `fraud.store.base.Histories.renew`."""
        with self._env.write() as txn:
            held = leases.prolong(_held(txn, lease.name), lease, now=now, ttl=ttl)
            txn.put(lease_key(lease.name), leases.pack(held))
        return held.lease(lease.name)

    def release(self, lease: Lease) -> None:
        """See `fraud.store.base.Histories.release`."""
        with self._env.write() as txn:
            held = leases.give_back(_held(txn, lease.name), lease)
            if held is not None:
                txn.put(lease_key(lease.name), leases.pack(held))

    def leases(self) -> dict[str, Lease]:
        """See `fraud.store.base.Histories.leases`."""
        found = {}
        with self._env.read() as txn:
            for key, raw in prefixed(txn, b"l"):
                held, name = leases.unpack(raw), key[1:].decode()
                if held is not None and not held.released:
                    found[name] = held.lease(name)
        return found

    def start(self, positions: Mapping[PartitionKey, int], lease: Lease) -> None:
        """See `fraud.store.base.Histories.start`."""
        with self._env.write() as txn:
            _require(txn, lease)
            existing = _marks(txn)
            if existing:
                raise fence.already_started(existing)
            for key, position in positions.items():
                with self._partition(key.partition).write() as inner:
                    inner.put(number_key(b"p", key), NUMBER.pack(position))
                    inner.put(EPOCH, NUMBER.pack(lease.epoch))
                txn.put(number_key(b"k", key), NUMBER.pack(position))

    def positions(self) -> dict[PartitionKey, int]:
        """See `fraud.store.base.Histories.positions`."""
        found = {}
        for key in self.marks():
            with self._partition(key.partition).read() as txn:
                position = number(txn, number_key(b"p", key))
            if position is not None:
                found[key] = position
        return found

    def marks(self) -> dict[PartitionKey, int]:
        """See `fraud.store.base.Histories.marks`."""
        with self._env.read() as txn:
            return _marks(txn)

    def read(self, partition: int, users: Sequence[str]) -> list[bytes | None]:
        """See `fraud.store.base.Histories.read`."""
        keys = user_keys(partition, users)
        with self._partition(partition).read() as txn:
            get = txn.get
            return [get(key) for key in keys]

    def commit(self, commit: SliceCommit) -> None:
        """See `fraud.store.base.Histories.commit`."""
        fence.check_order(commit)
        keys = user_keys(commit.key.partition, list(commit.histories))
        rows = sorted(zip(keys, commit.histories.values(), strict=True))  # neighbours share pages
        prefix = outbox_prefix(commit.key)
        chunks = [
            (prefix + NUMBER.pack(first), chunk) for first, chunk in outbox.pack(commit.answers, commit.committed_at)
        ]
        position_key = number_key(b"p", commit.key)
        with self._partition(commit.key.partition).write() as txn:
            fence.check_fence(commit, number(txn, position_key), number(txn, EPOCH))
            put = txn.put
            for key, value in rows:
                put(key, value)
            for key, value in chunks:
                put(key, value)
            if commit.collected is not None:
                extend_collected(txn, collected_prefix(commit.key), commit.collected)
            put(position_key, NUMBER.pack(commit.position))

    def answers(self, key: PartitionKey, start: int, end: int) -> Answers:
        """See `fraud.store.base.Histories.answers`."""
        with self._partition(key.partition).read() as txn:
            return outbox.unpack(chunks_of(txn, outbox_prefix(key), start, end), start, end)

    def collected(self, key: PartitionKey) -> ranges.Ranges:
        """See `fraud.store.base.Histories.collected`."""
        with self._partition(key.partition).read() as txn:
            rows = [
                (NUMBER.unpack(at[-8:])[0], NUMBER.unpack(end)[0]) for at, end in prefixed(txn, collected_prefix(key))
            ]
        return np.array(rows, np.int64).reshape(-1, 2)

    def set_marks(self, marks: Mapping[PartitionKey, int], lease: Lease) -> None:
        """See `fraud.store.base.Histories.set_marks`."""
        with self._env.write() as txn:
            _require(txn, lease)
            for key, mark in marks.items():
                mark_key = number_key(b"k", key)
                old = number(txn, mark_key)
                if old is None:
                    raise fence.unknown_partition(key)
                if mark > old:
                    txn.put(mark_key, NUMBER.pack(mark))

    def trim(self, lease: Lease, *, committed_before: int) -> int:
        """See `fraud.store.base.Histories.trim`."""
        with self._env.read() as txn:
            _require(txn, lease)
            marks = _marks(txn)
        return sum(self._trim(key, mark, lease, committed_before) for key, mark in marks.items())

    def _trim(self, key: PartitionKey, mark: int, lease: Lease, committed_before: int) -> int:
        environment = self._partition(key.partition)
        with environment.read(buffers=True) as txn:
            droppable = [
                (at, head.rows)
                for at, head in heads(txn, outbox_prefix(key), mark)
                if head.committed_at < committed_before
            ]
        for first in range(0, len(droppable), _TRIM_BATCH):
            with environment.write() as txn:
                epoch = number(txn, EPOCH)
                if epoch != lease.epoch:
                    raise fence.orphaned(key.partition, lease.epoch, epoch)
                for at, _ in droppable[first : first + _TRIM_BATCH]:
                    txn.delete(at)
        return sum(count for _, count in droppable)

    def load(self, partition: int, histories: Iterable[tuple[str, bytes]]) -> int:
        """See `fraud.store.base.Histories.load`; a crash leaves the batches written so far."""
        environment = self._partition(partition)
        rows, loaded = iter(histories), 0
        while batch := list(islice(rows, _LOAD_BATCH)):
            keys = user_keys(partition, [user for user, _ in batch])
            packed = sorted(zip(keys, (raw for _, raw in batch), strict=True))
            with environment.write() as txn:
                for key, raw in packed:
                    txn.put(key, raw)
            loaded += len(batch)
        return loaded

    def users(self, partition: int) -> Iterable[tuple[str, bytes]]:
        """See `fraud.store.base.Histories.users`; batches of users, each from its own snapshot."""
        prefix = b"u" + PARTITION.pack(partition)
        for key, raw in scan(self._partition(partition), prefix):
            yield key[len(prefix) :].decode(), raw

    def wipe(self) -> None:
        """See `fraud.store.base.Histories.wipe`; cut short, there is no position and histories are left."""
        with self._env.write() as txn:
            held = _held(txn, leases.SCORE)
            kept = list(prefixed(txn, b"l"))
            self._env.empty(txn)
            for key, raw in kept:
                txn.put(key, raw)
        for partition in self._stored():
            with partition.write() as txn:
                epoch = number(txn, EPOCH)
                if held is not None and epoch not in (None, held.epoch):
                    raise FencedError("another job took the store over while it was wiped; the rest was left to it")
                partition.empty(txn)

    def headroom(self) -> Headroom:
        """Return how full the fullest environment is: each has the whole map."""
        return max((each.headroom() for each in (self._env, *self._stored())), key=lambda room: room.used)

    def check_readers(self) -> None:
        """Free the slots of killed readers in what this process may have open."""
        for environment in self._used():
            environment.check_readers()

    def close(self) -> None:
        """Close every environment; safe to call twice."""
        for environment in self._used():
            environment.close()

    def _partition(self, number: int) -> Environment:
        known = self._partitions.get(number)
        # Of two threads that ask at once one's is kept: what is opened in it is closed with it.
        return self._partitions.setdefault(number, self._env.below(str(number))) if known is None else known

    def _used(self) -> list[Environment]:
        return [self._env, *list(self._partitions.values())]

    def _stored(self) -> Iterator[Environment]:
        """Yield the environments of every partition that has one."""
        for name in filter(str.isdigit, self._env.names_below()):
            yield self._partition(int(name))


def _marks(txn: lmdb.Transaction) -> dict[PartitionKey, int]:
    if txn.cursor().set_range(b"m"):  # outbox, positions, users: all that stood here besides once
        raise StoreError(
            "the online store was written by an older version, with all partitions in one file; make it anew with "
            "`fraud-detect rebuild`"
        )
    return numbers(txn, b"k")


def _held(txn: lmdb.Transaction, name: str) -> Held | None:
    return leases.unpack(txn.get(lease_key(name)))


def _require(txn: lmdb.Transaction, lease: Lease) -> None:
    leases.require_score(lease)
    leases.require(_held(txn, lease.name), lease)
