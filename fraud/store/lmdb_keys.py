"""How histories, positions and outbox lie in LMDB environments, and how they are scanned.

Keys, in one tree so that its page counts are the environment's (numbers big-endian, so they sort)::

    l name                           lease (JSON)
    k partition topic_id             mark

and in each partition's environment::

    e                                epoch of the lease `score`
    p partition topic_id             position
    u partition user_id              history
    o partition topic_id 00 offset   outbox chunk, under its first offset
    c partition topic_id 00 offset   end of a collected range, under its first offset
"""

import struct
from collections.abc import Iterator, Sequence
from itertools import islice

import lmdb

from fraud.ranges import Ranges
from fraud.store import ids, outbox
from fraud.store.base import PartitionKey
from fraud.store.lmdb_environment import Environment

PARTITION = struct.Struct(">I")
NUMBER = struct.Struct(">q")
EPOCH = b"e"
_SCAN_BATCH = 1_000  # keys in one read transaction: a long one would pin every page written since


def scan(environment: Environment, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield every key and value below a prefix, in batches that each read their own snapshot."""
    after = prefix
    while True:
        with environment.read() as txn:
            batch = list(islice(prefixed(txn, prefix, after), _SCAN_BATCH))
        yield from batch
        if len(batch) < _SCAN_BATCH:
            return
        after = batch[-1][0] + b"\0"


def prefixed(txn: lmdb.Transaction, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    cursor = txn.cursor()
    if cursor.set_range(start or prefix):
        for key, value in cursor:
            if not key.startswith(prefix):
                return
            yield key, value


def heads(txn: lmdb.Transaction, prefix: bytes, mark: int) -> Iterator[tuple[bytes, outbox.ChunkHead]]:
    """Yield key and header of the chunks wholly below the mark, in a transaction with buffers."""
    cursor = txn.cursor()
    if cursor.set_range(prefix):
        for view, chunk in cursor:
            key = bytes(view)
            if not key.startswith(prefix):
                return
            head = outbox.head(chunk)
            if head.last >= mark:
                return
            yield key, head


def chunks_of(txn: lmdb.Transaction, prefix: bytes, start: int, end: int) -> Iterator[bytes]:
    """Yield the chunks that may hold answers of [start, end), the one that `start` lies in first."""
    cursor = txn.cursor()
    at = prefix + NUMBER.pack(max(start, 0))
    if not (cursor.set_range(at) and cursor.key() == at):
        stepped = cursor.prev() if cursor.key() else cursor.last()
        if not (stepped and cursor.key().startswith(prefix)) and not cursor.set_range(at):
            return
    for key, chunk in cursor:
        if not key.startswith(prefix) or NUMBER.unpack(key[-8:])[0] >= end:
            return
        yield chunk


def extend_collected(txn: lmdb.Transaction, prefix: bytes, collected: Ranges) -> None:
    """Put collected ranges after the stored ones; the first may go on where the last of these ends."""
    for index, (start, end) in enumerate(collected.tolist()):
        key = prefix + NUMBER.pack(start)
        if index == 0:
            cursor = txn.cursor()
            before = cursor.prev() if cursor.set_range(key) else cursor.last()
            if before and cursor.key().startswith(prefix) and cursor.value() == NUMBER.pack(start):
                key = cursor.key()
        txn.put(key, NUMBER.pack(end))


def user_keys(partition: int, users: Sequence[str]) -> list[bytes]:
    prefix = b"u" + PARTITION.pack(partition)
    return [prefix + user for user in ids.encode("user", users)]


def lease_key(name: str) -> bytes:
    return b"l" + name.encode()


def number_key(kind: bytes, key: PartitionKey) -> bytes:
    return kind + PARTITION.pack(key.partition) + key.topic_id.encode()


def outbox_prefix(key: PartitionKey) -> bytes:
    return b"o" + PARTITION.pack(key.partition) + key.topic_id.encode() + b"\0"


def collected_prefix(key: PartitionKey) -> bytes:
    return b"c" + PARTITION.pack(key.partition) + key.topic_id.encode() + b"\0"


def number(txn: lmdb.Transaction, key: bytes) -> int | None:
    raw = txn.get(key)
    return None if raw is None else int(NUMBER.unpack(raw)[0])


def numbers(txn: lmdb.Transaction, kind: bytes) -> dict[PartitionKey, int]:
    return {
        PartitionKey(bytes(key[5:]).decode(), PARTITION.unpack(key[1:5])[0]): NUMBER.unpack(raw)[0]
        for key, raw in prefixed(txn, kind)
    }
