"""Leases and slices as tests need them: short to write, with every field under control."""

from collections.abc import Mapping, Sequence

import numpy as np

from fraud.store.base import Answers, Histories, Kind, Lease, PartitionKey, SliceCommit

FIRST, SECOND = PartitionKey("topic-a", 0), PartitionKey("topic-a", 1)
NOW, TTL = 1_790_000_000_000, 30_000


def take(histories: Histories, owner: str = "one", *, name: str = "score", now: int = NOW) -> Lease:
    """Acquire a lease from a host that isn't this machine: nobody can tell whether its holder lives."""
    return histories.acquire(name, owner, host="elsewhere", pid=7, now=now, ttl=TTL)


def answers_at(offsets: Sequence[int], value: bytes = b"value") -> Answers:
    """Return answers that name their offset; every third has no key, every fourth is a rejection."""
    return Answers(
        offsets=np.array(offsets, np.int64),
        kinds=np.array([Kind.REJECTION if offset % 4 == 3 else Kind.PREDICTION for offset in offsets], np.uint8),
        digests=np.array([offset * 7 + 2**63 for offset in offsets], np.uint64),
        keys=[None if offset % 3 == 2 else b"key %d" % offset for offset in offsets],
        values=[b"%s %d" % (value, offset) for offset in offsets],
    )


def slice_of(
    lease: Lease,
    expected: int,
    position: int,
    *,
    key: PartitionKey = FIRST,
    histories: Mapping[str, bytes] | None = None,
    answers: Answers | None = None,
    at: int = NOW,
) -> SliceCommit:
    """Return the commit of [expected, position), with an answer per offset unless others are given."""
    given = answers_at(range(expected, position)) if answers is None else answers
    return SliceCommit(key, lease.epoch, expected, position, {} if histories is None else histories, given, at)


def collecting(
    lease: Lease,
    expected: int,
    position: int,
    collected: Sequence[Sequence[int]],
    *,
    answers: Answers,
    key: PartitionKey = FIRST,
) -> SliceCommit:
    """Return the commit of a slice that was collected without a model."""
    ranges = np.array(collected, np.int64).reshape(-1, 2)
    return SliceCommit(key, lease.epoch, expected, position, {}, answers, NOW, ranges)


def started(histories: Histories, position: int = 0) -> Lease:
    """Take the lease and start both partitions."""
    lease = take(histories)
    histories.start({FIRST: position, SECOND: position}, lease)
    return lease


def rows(answers: Answers) -> list[tuple[int, int, int, bytes | None, bytes]]:
    """Return the answers as rows, to compare."""
    columns = (answers.offsets.tolist(), answers.kinds.tolist(), answers.digests.tolist(), answers.keys, answers.values)
    return list(zip(*columns, strict=True))
