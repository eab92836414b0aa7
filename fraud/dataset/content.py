"""What a training set's rows are, and their hash: the same however many users are built at a time."""

import hashlib
from collections.abc import Mapping

import numpy as np
import polars as pl
import xxhash

from fraud.features import FEATURE_NAMES

BUCKETS = 64  # by user; the hash of the content is made of theirs
KEY = ["user_id", "transaction_id"]
NAMED = [*KEY, "merchant_id", "timestamp", "is_fraud"]
COLUMNS = [*NAMED, *FEATURE_NAMES]
_USERS_AT_ONCE = 100_000


def bucket_of(user: str) -> int:
    """Return a user's bucket.

    >>> bucket_of("c1")
    2
    """
    return xxhash.xxh3_64_intdigest(user) % BUCKETS


def buckets_of(users: pl.Series) -> pl.Series:
    """Return each user's bucket, UInt8; the names are Python's some thousand at a time."""
    parts = [
        pl.Series([bucket_of(user) for user in users[start : start + _USERS_AT_ONCE].to_list()], dtype=pl.UInt8)
        for start in range(0, len(users), _USERS_AT_ONCE)
    ]
    return pl.concat(parts) if parts else pl.Series(dtype=pl.UInt8)


def hashes(rows: pl.DataFrame) -> dict[int, str]:
    """Return bucket → sha256 of its rows; `rows` are sorted and hold each bucket's users whole or not at all."""
    names = rows["user_id"].unique()
    of = rows["user_id"].replace_strict(names, buckets_of(names), return_dtype=pl.UInt8)
    return {int(bucket): _hash(rows.filter(of == bucket)) for bucket in of.unique().sort()}


def content_hash(buckets: Mapping[int, str]) -> str:
    """Return the hash of the whole content."""
    return hashlib.sha256("".join(f"{bucket} {buckets[bucket]}\n" for bucket in sorted(buckets)).encode()).hexdigest()


def _hash(rows: pl.DataFrame) -> str:
    """Hash columns one after the other: identifiers hold no control character, NaN stands for null."""
    content = hashlib.sha256(f"{len(rows)}\n".encode())
    for name in COLUMNS:
        column = rows[name]
        if column.dtype == pl.String:
            content.update("\0".join(column.to_list()).encode())
        elif column.dtype == pl.Float64:
            content.update(column.fill_null(np.nan).to_numpy().astype("<f8").tobytes())
        else:
            content.update(column.cast(pl.Int64).to_numpy().astype("<i8").tobytes())
    return content.hexdigest()
