"""What a Redis store keeps in one place for all partitions: leases, the list of partitions, a pending start.

A start touches every partition's slot, which no script can do at once on a cluster. So it is written down
first, carried out partition by partition, and struck off; whoever takes the `score` lease finishes a start
that was cut short. Leases are rewritten by compare-and-set: the rules stay in `fraud.store.leases`.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from fraud.errors import FencedError, StoreError
from fraud.store import fence, leases, redis_scripts
from fraud.store import redis_keys as keys
from fraud.store.base import Lease, PartitionKey
from fraud.store.leases import Held
from fraud.store.redis_client import Arguments, Client

_ATTEMPTS = 20  # of writing a lease that somebody else writes at the same time

_Positions = Mapping[PartitionKey, int]


class _Pending(msgspec.Struct, frozen=True):
    """A start on its way, with whose it is: no two have the same bytes."""

    owner: str
    epoch: int
    positions: list[tuple[PartitionKey, int]]


class _Read(NamedTuple):
    """A lease's record and its bytes, by which it is replaced."""

    raw: bytes
    held: Held | None


class Control:
    """Leases and starts."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def acquire(self, name: str, owner: str, *, host: str, pid: int, now: int, ttl: int) -> Lease:
        """Take a lease; the `score` lease's epoch is in every partition's slot before this returns.

        After a failover the record may be an older one. An epoch that a partition has seen with another holder
        is never given out again: the lease moves beyond it.
        """
        beyond = 0
        while True:
            for read in self._attempts(name):
                held = leases.take(name, read.held, owner=owner, host=host, pid=pid, now=now, ttl=ttl)
                held = msgspec.structs.replace(held, epoch=max(held.epoch, beyond + 1))
                if self._swap(name, read, held):
                    break
            lease = held.lease(name)
            if name != leases.SCORE:
                return lease
            beyond = max((self._open(partition, lease)[0] for partition in self.partitions()), default=0)
            if beyond == 0:
                self._finish_start(lease)
                return lease

    def renew(self, lease: Lease, *, now: int, ttl: int) -> Lease:
        """See `fraud.store.base.Histories.renew`."""
        for read in self._attempts(lease.name):
            held = leases.prolong(read.held, lease, now=now, ttl=ttl)
            if self._swap(lease.name, read, held):
                break
        return held.lease(lease.name)

    def release(self, lease: Lease) -> None:
        """See `fraud.store.base.Histories.release`."""
        for read in self._attempts(lease.name):
            held = leases.give_back(read.held, lease)
            if held is None or self._swap(lease.name, read, held):
                return

    def leases(self) -> dict[str, Lease]:
        """See `fraud.store.base.Histories.leases`."""
        found = {}
        for raw_name, raw in self._client.run("HGETALL", keys.LEASES).items():
            held, name = leases.unpack(raw), raw_name.decode()
            if held is not None and not held.released:
                found[name] = held.lease(name)
        return found

    def require(self, lease: Lease) -> None:
        """Raise FencedError unless this is the `score` lease and still held."""
        leases.require_score(lease)
        leases.require(self._read(lease.name).held, lease)

    def partitions(self) -> list[int]:
        """Return every partition that was ever written, in order."""
        return sorted(int(raw) for raw in self._client.run("SMEMBERS", keys.PARTITIONS))

    def add_partition(self, partition: int) -> None:
        """Remember a partition before anything is written to it."""
        self._client.run("SADD", keys.PARTITIONS, partition)

    def start(self, positions: _Positions, lease: Lease) -> None:
        """Write the start down, carry it out and strike it off; the caller has seen that no position exists."""
        raw = msgspec.json.encode(_Pending(lease.owner, lease.epoch, list(positions.items())))
        partitions = sorted({key.partition for key in positions})
        for read in self._attempts(lease.name):
            leases.require(read.held, lease)
            outcome = self._client.script(
                redis_scripts.PLAN_START,
                [keys.LEASES, keys.PENDING, keys.PARTITIONS],
                [lease.name, read.raw, raw, *partitions],
            )
            if outcome == 0 and self._client.run("GET", keys.PENDING) != raw:
                raise fence.already_started(positions)
            if outcome >= 0:
                break
        self._finish_start(lease)

    def cancel_start(self) -> None:
        """Forget a pending start."""
        self._client.run("DEL", keys.PENDING)

    def _finish_start(self, lease: Lease) -> None:
        raw = self._client.run("GET", keys.PENDING)
        if raw is None:
            return
        try:
            pending = msgspec.json.decode(raw, type=_Pending)
        except msgspec.MsgspecError as exc:
            raise StoreError(
                f"a start's record can't be read ({exc}): the store is damaged; empty it and run `fraud-detect rebuild`"
            ) from exc
        for key, position in pending.positions:
            obstacle, *found = self._open(key.partition, lease, (key.topic_id, position))
            if obstacle:
                raise fence.orphaned(key.partition, lease.epoch, obstacle)
            if found != [position]:
                raise fence.already_started([key])
        self._client.script(redis_scripts.FINISH_START, [keys.PENDING], [raw])

    def _open(self, partition: int, lease: Lease, *starts: tuple[str, int]) -> list[int]:
        """Raise a partition's epoch, set first positions; return the epoch in the way (0: none) and positions."""
        arguments: Arguments = [lease.epoch, lease.owner]
        for topic_id, position in starts:
            arguments += [keys.position_field(topic_id), keys.mark_field(topic_id), position]
        reply = self._client.script(redis_scripts.OPEN_PARTITION, [keys.state(partition)], arguments)
        return [int(part) for part in reply]

    def _read(self, name: str) -> _Read:
        raw = self._client.run("HGET", keys.LEASES, name)
        return _Read(raw or b"", leases.unpack(raw))

    def _attempts(self, name: str) -> Iterator[_Read]:
        """Yield the lease's record, anew each time that somebody changed it meanwhile."""
        for _ in range(_ATTEMPTS):
            yield self._read(name)
        raise FencedError(
            f"the lease `{name}` changed {_ATTEMPTS} times while it was written; is a second job running?"
        )

    def _swap(self, name: str, read: _Read, held: Held) -> bool:
        arguments: Arguments = [name, read.raw, leases.pack(held)]
        swapped: int = self._client.script(redis_scripts.SWAP_LEASE, [keys.LEASES], arguments)
        return swapped == 1
