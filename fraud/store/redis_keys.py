"""How the store lies in Redis: what changes together lies in one hash slot, chosen by the part in braces.

    fraud:{control}:leases       hash    lease name → record (JSON)
    fraud:{control}:partitions   set     every partition that was ever written
    fraud:{control}:pending      string  a start that isn't carried out everywhere yet (JSON)
    fraud:{p3}:state             hash    epoch, holder, position topic_id → offset, mark topic_id → offset
    fraud:{p3}:users             hash    user_id → history
    fraud:{p3}:outbox:topic_id   hash    first offset → chunk
    fraud:{p3}:index:topic_id    sorted  first offset → "first:last:committed_at:rows", to find chunks unread
    fraud:{p3}:collected:topic_id sorted first offset → "first:end" of a collected range
    fraud:{merchants}            hash    m merchant_id → changes, t → profile_through, a → the last batch applied:
                                         one HMGET is a snapshot
    fraud:{serving}:pointer      string  record (JSON)
    fraud:{serving}:bundles      hash    sha256 → bundle

A partition's `epoch` is the `score` lease's, copied by `acquire`: a commit compares it in its own slot.
"""

from collections.abc import Mapping
from typing import NamedTuple

from fraud.errors import StoreError
from fraud.store.base import PartitionKey
from fraud.store.outbox import ChunkHead

LEASES = "fraud:{control}:leases"
PARTITIONS = "fraud:{control}:partitions"
PENDING = "fraud:{control}:pending"
MERCHANTS = "fraud:{merchants}"
POINTER = "fraud:{serving}:pointer"
BUNDLES = "fraud:{serving}:bundles"

_POSITION, _MARK = "position ", "mark "


def state(partition: int) -> str:
    """Return the key of a partition's positions, marks and epoch."""
    return f"fraud:{{p{partition}}}:state"


def users(partition: int) -> str:
    """Return the key of a partition's histories."""
    return f"fraud:{{p{partition}}}:users"


def outbox(key: PartitionKey) -> str:
    """Return the key of the outbox's chunks."""
    return f"fraud:{{p{key.partition}}}:outbox:{key.topic_id}"


def index(key: PartitionKey) -> str:
    """Return the key of the outbox's index."""
    return f"fraud:{{p{key.partition}}}:index:{key.topic_id}"


def collected(key: PartitionKey) -> str:
    """Return the key of what was collected without a model."""
    return f"fraud:{{p{key.partition}}}:collected:{key.topic_id}"


def position_field(topic_id: str) -> str:
    """Return the field of a position in a partition's state."""
    return _POSITION + topic_id


def mark_field(topic_id: str) -> str:
    """Return the field of a mark in a partition's state."""
    return _MARK + topic_id


class State(NamedTuple):
    """What a partition's state says, by topic id."""

    positions: dict[str, int]
    marks: dict[str, int]


def read_state(fields: Mapping[bytes, bytes]) -> State:
    """Return a partition's state from its hash."""
    found = State({}, {})
    for raw, value in fields.items():
        name = raw.decode()
        if name.startswith(_POSITION):
            found.positions[name.removeprefix(_POSITION)] = int(value)
        elif name.startswith(_MARK):
            found.marks[name.removeprefix(_MARK)] = int(value)
    return found


def member(head: ChunkHead) -> str:
    """Return the index's entry of a chunk.

    >>> member(ChunkHead(rows=2, committed_at=1700, first=5, last=9))
    '5:9:1700:2'
    """
    return f"{head.first}:{head.last}:{head.committed_at}:{head.rows}"


def read_member(raw: bytes) -> ChunkHead:
    """Return what the index says of a chunk; StoreError if it isn't an entry."""
    try:
        first, last, committed_at, rows = (int(part) for part in raw.split(b":"))
    except ValueError as exc:
        raise StoreError(f"the outbox's index holds {raw!r}; make the store anew with `fraud-detect rebuild`") from exc
    return ChunkHead(rows, committed_at, first, last)
