"""Histories, positions, marks, leases and outbox in Redis: one commit is one script in the partition's slot.

Round trips of a slice: two for the positions, one for the histories of 2,000 users each, one for the commit.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from fraud import ranges
from fraud.store import fence, ids, outbox, redis_scripts
from fraud.store import redis_keys as keys
from fraud.store.base import Answers, Lease, PartitionKey, SliceCommit
from fraud.store.redis_client import Arguments, Client
from fraud.store.redis_control import Control

_LOAD_BATCH = 1_000  # users in one command: other clients wait for no longer
_SCAN_COUNT = 1_000
_CHUNK_BATCH = 32  # outbox chunks in one reply, of 1 MiB each
_TRIM_BATCH = 1_000  # chunks


class RedisHistories:
    """What the score job remembers; the writer of a partition is fenced by position and epoch in its slot."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._control = Control(client)
        self.acquire = self._control.acquire
        self.renew = self._control.renew
        self.release = self._control.release
        self.leases = self._control.leases

    def start(self, positions: Mapping[PartitionKey, int], lease: Lease) -> None:
        """See `fraud.store.base.Histories.start`; the next holder of the lease finishes one that was cut short."""
        self._control.require(lease)
        existing = self.positions()
        if existing:
            raise fence.already_started(existing)
        self._control.start(positions, lease)

    def positions(self) -> dict[PartitionKey, int]:
        """See `fraud.store.base.Histories.positions`."""
        return {
            PartitionKey(topic_id, partition): position
            for partition, state in self._states().items()
            for topic_id, position in state.positions.items()
        }

    def marks(self) -> dict[PartitionKey, int]:
        """See `fraud.store.base.Histories.marks`."""
        return {
            PartitionKey(topic_id, partition): mark
            for partition, state in self._states().items()
            for topic_id, mark in state.marks.items()
        }

    def read(self, partition: int, users: Sequence[str]) -> list[bytes | None]:
        """See `fraud.store.base.Histories.read`."""
        if not users:
            return []
        found: list[bytes | None] = self._client.run("HMGET", keys.users(partition), *ids.encode("user", users))
        return found

    def commit(self, commit: SliceCommit) -> None:
        """See `fraud.store.base.Histories.commit`.

        If the reply is lost, the script is sent again and finds its own position: FencedError, and the slice is
        answered from the outbox as after any other crash between commit and output.
        """
        fence.check_order(commit)
        key = commit.key
        users = ids.encode("user", commit.histories)
        chunks = list(outbox.pack(commit.answers, commit.committed_at))
        arguments: Arguments = [
            commit.epoch,
            keys.position_field(key.topic_id),
            commit.expected,
            commit.position,
            len(users),
            len(chunks),
        ]
        for user, history in zip(users, commit.histories.values(), strict=True):
            arguments += (user, history)
        for first, chunk in chunks:
            arguments += (first, keys.member(outbox.head(chunk)), chunk)
        if commit.collected is not None:
            arguments += commit.collected.ravel().tolist()
        slot = [keys.state(key.partition), keys.users(key.partition)]
        slot += [keys.outbox(key), keys.index(key), keys.collected(key)]
        refused = self._client.script(redis_scripts.COMMIT, slot, arguments)
        if refused:
            position, epoch = (None if raw is None else int(raw) for raw in refused)
            fence.check_fence(commit, position, epoch)

    def answers(self, key: PartitionKey, start: int, end: int) -> Answers:
        """See `fraud.store.base.Histories.answers`."""
        return outbox.unpack(self._chunks(key, start, end), start, end)

    def collected(self, key: PartitionKey) -> ranges.Ranges:
        """See `fraud.store.base.Histories.collected`."""
        members = self._client.run("ZRANGE", keys.collected(key), 0, -1)
        rows = [tuple(map(int, raw.split(b":"))) for raw in members]
        return np.array(rows, np.int64).reshape(-1, 2)

    def set_marks(self, marks: Mapping[PartitionKey, int], lease: Lease) -> None:
        """See `fraud.store.base.Histories.set_marks`; each partition's mark is a step of its own."""
        self._control.require(lease)
        known = self.marks()
        for key in marks:
            if key not in known:
                raise fence.unknown_partition(key)
        for key, mark in marks.items():
            arguments: Arguments = [lease.epoch, keys.mark_field(key.topic_id), mark]
            self._fenced(redis_scripts.RAISE_MARKS, [keys.state(key.partition)], arguments, key, lease)

    def trim(self, lease: Lease, *, committed_before: int) -> int:
        """See `fraud.store.base.Histories.trim`."""
        self._control.require(lease)
        dropped = 0
        for key, mark in self.marks().items():
            members = self._client.run("ZRANGEBYSCORE", keys.index(key), "-inf", f"({mark}")
            heads = ((raw, keys.read_member(raw)) for raw in members)
            old = [(raw, head) for raw, head in heads if head.last < mark and head.committed_at < committed_before]
            for at in range(0, len(old), _TRIM_BATCH):
                batch = old[at : at + _TRIM_BATCH]
                arguments: Arguments = [lease.epoch]
                for raw, head in batch:
                    arguments += (head.first, raw)
                slot = [keys.state(key.partition), keys.outbox(key), keys.index(key)]
                self._fenced(redis_scripts.DROP_CHUNKS, slot, arguments, key, lease)
                dropped += sum(head.rows for _, head in batch)
        return dropped

    def load(self, partition: int, histories: Iterable[tuple[str, bytes]]) -> int:
        """See `fraud.store.base.Histories.load`; a crash leaves the batches written so far."""
        rows, loaded = iter(histories), 0
        self._control.add_partition(partition)
        while batch := list(islice(rows, _LOAD_BATCH)):
            users = ids.encode("user", (user for user, _ in batch))
            fields = [part for user, (_, raw) in zip(users, batch, strict=True) for part in (user, raw)]
            self._client.run("HSET", keys.users(partition), *fields)
            loaded += len(batch)
        return loaded

    def users(self, partition: int) -> Iterable[tuple[str, bytes]]:
        """See `fraud.store.base.Histories.users`; each user once, as of the moment that it is read."""
        for user, raw in scan(self._client, keys.users(partition)):
            yield user.decode(), raw

    def wipe(self) -> None:
        """See `fraud.store.base.Histories.wipe`; partition by partition, so one cut short is to be repeated."""
        self._control.cancel_start()
        for partition in self._control.partitions():
            state = keys.read_state(self._client.run("HGETALL", keys.state(partition)))
            topics = [PartitionKey(topic_id, partition) for topic_id in state.positions]
            gone = [keys.users(partition)]
            gone += [name(topic) for topic in topics for name in (keys.outbox, keys.index, keys.collected)]
            fields = [name(topic_id) for topic_id, _ in topics for name in (keys.position_field, keys.mark_field)]
            commands: list[Arguments] = [["UNLINK", *gone]]
            if fields:
                commands.append(["HDEL", keys.state(partition), *fields])
            self._client.batch(commands, atomic=True)

    def _states(self) -> dict[int, keys.State]:
        partitions = self._control.partitions()
        replies = self._client.batch([["HGETALL", keys.state(partition)] for partition in partitions])
        return {partition: keys.read_state(reply) for partition, reply in zip(partitions, replies, strict=True)}

    def _chunks(self, key: PartitionKey, start: int, end: int) -> Iterator[bytes]:
        """Yield the chunks that hold answers of [start, end), the one that `start` lies in first."""
        index = keys.index(key)
        before, after = self._client.batch(
            [
                ["ZREVRANGEBYSCORE", index, start, "-inf", "LIMIT", 0, 1],
                ["ZRANGEBYSCORE", index, f"({start}", f"({end}"],
            ]
        )
        heads = [keys.read_member(raw) for raw in [*before, *after]]
        firsts = [head.first for head in heads if head.last >= start and head.first < end]
        for at in range(0, len(firsts), _CHUNK_BATCH):
            chunks = self._client.run("HMGET", keys.outbox(key), *firsts[at : at + _CHUNK_BATCH])
            yield from (chunk for chunk in chunks if chunk is not None)  # trimmed meanwhile: published

    def _fenced(self, script: str, slot: list[str], arguments: Arguments, key: PartitionKey, lease: Lease) -> None:
        """Run a script that the partition's epoch may refuse; say then whose the lease is."""
        refused = self._client.script(script, slot, arguments)
        if refused:
            self._control.require(lease)
            raise fence.orphaned(key.partition, lease.epoch, None if refused[0] is None else int(refused[0]))


def scan(client: Client, key: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield every field of a hash once: HSCAN may repeat some while the hash grows."""
    cursor, seen = 0, set[bytes]()
    while True:
        cursor, fields = client.run("HSCAN", key, cursor, "COUNT", _SCAN_COUNT)
        for field, value in fields.items():
            if field not in seen:
                seen.add(field)
                yield field, value
        if int(cursor) == 0:
            return
