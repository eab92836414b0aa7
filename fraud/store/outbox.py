"""The outbox's encoding: finished answers in chunks of at most 1 MiB, shared by every store.

A chunk is a header, columns (little-endian), then all keys and all values::

    u32 version   u32 count   i64 committed_at   i64 first offset   i64 last offset
    i64 offsets[count]   u64 digests[count]   i32 key_lengths[count] (-1: no key)   u32 value_lengths[count]
    u8 kinds[count]   keys   values

Chunks are stored under their first offset. One answer larger than a chunk is stored alone.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from fraud.errors import StoreError
from fraud.store.base import Answers

CHUNK_BYTES = 1 << 20
_HEADER = struct.Struct("<IIqqq")
_VERSION = 1
_ROW_BYTES = 8 + 8 + 4 + 4 + 1


class ChunkHead(NamedTuple):
    """What can be told of a chunk without reading its answers."""

    rows: int
    committed_at: int  # ms
    first: int
    last: int


def pack(answers: Answers, committed_at: int) -> Iterator[tuple[int, bytes]]:
    """Yield (first offset, chunk) for answers in offset order."""
    n = len(answers)
    if n == 0:
        return
    keys = [b"" if key is None else key for key in answers.keys]
    key_lengths = np.fromiter((-1 if key is None else len(key) for key in answers.keys), np.int32, n)
    value_lengths = np.fromiter(map(len, answers.values), np.uint32, n)
    ends = np.cumsum(np.maximum(key_lengths, 0) + value_lengths.astype(np.int64) + _ROW_BYTES)
    start = 0
    while start < n:
        before = int(ends[start - 1]) if start else 0
        room = before + CHUNK_BYTES - _HEADER.size
        end = max(int(np.searchsorted(ends, room, side="right")), start + 1)
        part = slice(start, end)
        offsets = answers.offsets[part]
        yield (
            int(offsets[0]),
            b"".join(
                [
                    _HEADER.pack(_VERSION, end - start, committed_at, int(offsets[0]), int(offsets[-1])),
                    offsets.astype("<i8").tobytes(),
                    answers.digests[part].astype("<u8").tobytes(),
                    key_lengths[part].astype("<i4").tobytes(),
                    value_lengths[part].astype("<u4").tobytes(),
                    answers.kinds[part].astype("u1").tobytes(),
                    *keys[part],
                    *answers.values[part],
                ]
            ),
        )
        start = end


def head(chunk: bytes | memoryview) -> ChunkHead:
    """Return a chunk's header; StoreError if it is of another version or torn."""
    if len(chunk) < _HEADER.size:
        raise StoreError(
            f"an outbox chunk has only {len(chunk)} bytes; make the store anew with `fraud-detect rebuild`"
        )
    version, *rest = _HEADER.unpack_from(chunk)
    if version != _VERSION:
        raise StoreError(f"an outbox chunk has version {version}, this release reads {_VERSION}")
    return ChunkHead(*rest)


def unpack(chunks: Iterable[bytes], start: int, end: int) -> Answers:
    """Return the answers with start <= offset < end of chunks given in offset order."""
    offsets, kinds, digests = [np.empty(0, np.int64)], [np.empty(0, np.uint8)], [np.empty(0, np.uint64)]
    keys: list[bytes | None] = []
    values: list[bytes] = []
    for chunk in chunks:
        n = head(chunk).rows
        at = _HEADER.size
        columns = []
        for dtype in ("<i8", "<u8", "<i4", "<u4", "u1"):
            columns.append(np.frombuffer(chunk, dtype, n, at))
            at += columns[-1].nbytes
        low, high = (int(i) for i in np.searchsorted(columns[0], [start, end]))
        if low >= high:
            continue
        offsets.append(columns[0][low:high].astype(np.int64))
        digests.append(columns[1][low:high].astype(np.uint64))
        kinds.append(columns[4][low:high].astype(np.uint8))
        key_ends = at + np.cumsum(np.maximum(columns[2], 0), dtype=np.int64)
        value_ends = key_ends[-1] + np.cumsum(columns[3], dtype=np.int64)
        for i in range(low, high):
            key_length, value_length = int(columns[2][i]), int(columns[3][i])
            key_end, value_end = int(key_ends[i]), int(value_ends[i])
            keys.append(None if key_length < 0 else chunk[key_end - key_length : key_end])
            values.append(chunk[value_end - value_length : value_end])
    return Answers(np.concatenate(offsets), np.concatenate(kinds), np.concatenate(digests), keys, values)
