"""Histories, positions, marks, leases and outbox in one LMDB environment: one commit is one transaction."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import lmdb
import numpy as np

from fraud import ranges
from fraud.store import fence, leases, outbox
from fraud.store.base import Answers, Lease, PartitionKey, SliceCommit
from fraud.store.leases import Held
from fraud.store.lmdb_environment import Environment
from fraud.store.lmdb_keys import (
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
    """What the score job remembers; writers are serialised over all processes by LMDB's lock."""

    def __init__(self, environment: Environment) -> None:
        self._env = environment

    def acquire(self, name: str, owner: str, *, host: str, pid: int, now: int, ttl: int) -> Lease:
        """See `fraud.store.base.Histories.acquire`."""
        with self._env.write() as txn:
            held = leases.take(name, _held(txn, name), owner=owner, host=host, pid=pid, now=now, ttl=ttl)
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
            existing = numbers(txn, b"p")
            if existing:
                raise fence.already_started(existing)
            for key, position in positions.items():
                txn.put(number_key(b"p", key), NUMBER.pack(position))
                txn.put(number_key(b"k", key), NUMBER.pack(position))

    def positions(self) -> dict[PartitionKey, int]:
        """See `fraud.store.base.Histories.positions`."""
        with self._env.read() as txn:
            return numbers(txn, b"p")

    def marks(self) -> dict[PartitionKey, int]:
        """See `fraud.store.base.Histories.marks`."""
        with self._env.read() as txn:
            return numbers(txn, b"k")

    def read(self, partition: int, users: Sequence[str]) -> list[bytes | None]:
        """See `fraud.store.base.Histories.read`."""
        keys = user_keys(partition, users)
        with self._env.read() as txn:
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
        with self._env.write() as txn:
            held = _held(txn, leases.SCORE)
            fence.check_fence(commit, number(txn, position_key), None if held is None else held.epoch)
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
        with self._env.read() as txn:
            return outbox.unpack(chunks_of(txn, outbox_prefix(key), start, end), start, end)

    def collected(self, key: PartitionKey) -> ranges.Ranges:
        """See `fraud.store.base.Histories.collected`."""
        with self._env.read() as txn:
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
        leases.require_score(lease)
        marks = self.marks()
        with self._env.read(buffers=True) as txn:
            droppable = [
                (key, head.rows)
                for partition, mark in marks.items()
                for key, head in heads(txn, outbox_prefix(partition), mark)
                if head.committed_at < committed_before
            ]
        for at in range(0, max(len(droppable), 1), _TRIM_BATCH):
            with self._env.write() as txn:
                _require(txn, lease)
                for key, _ in droppable[at : at + _TRIM_BATCH]:
                    txn.delete(key)
        return sum(count for _, count in droppable)

    def load(self, partition: int, histories: Iterable[tuple[str, bytes]]) -> int:
        """See `fraud.store.base.Histories.load`; a crash leaves the batches written so far."""
        rows, loaded = iter(histories), 0
        while batch := list(islice(rows, _LOAD_BATCH)):
            keys = user_keys(partition, [user for user, _ in batch])
            packed = sorted(zip(keys, (raw for _, raw in batch), strict=True))
            with self._env.write() as txn:
                for key, raw in packed:
                    txn.put(key, raw)
            loaded += len(batch)
        return loaded

    def users(self, partition: int) -> Iterable[tuple[str, bytes]]:
        """See `fraud.store.base.Histories.users`; batches of users, each from its own snapshot."""
        prefix = b"u" + PARTITION.pack(partition)
        for key, raw in scan(self._env, prefix):
            yield key[len(prefix) :].decode(), raw

    def wipe(self) -> None:
        """See `fraud.store.base.Histories.wipe`."""
        with self._env.write() as txn:
            kept = list(prefixed(txn, b"l"))
            self._env.empty(txn)
            for key, raw in kept:
                txn.put(key, raw)


def _held(txn: lmdb.Transaction, name: str) -> Held | None:
    return leases.unpack(txn.get(lease_key(name)))


def _require(txn: lmdb.Transaction, lease: Lease) -> None:
    leases.require_score(lease)
    leases.require(_held(txn, lease.name), lease)
