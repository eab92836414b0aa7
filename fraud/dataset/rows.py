"""The rows of a training set, some users at a time: what was accepted, what was known of it, what the model saw."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import xxhash

from fraud.builder import build_features
from fraud.features import FEATURE_NAMES, FEATURE_VERSION
from fraud.lake import Lake, read, reading
from fraud.lake.tables import BACKFILL, LABELS, PREDICTIONS, PROFILE_CHANGES

BUCKETS = 64  # by user; the hash of the content is made of theirs, however many are built at a time
KEY = ["user_id", "transaction_id"]
COLUMNS = [*KEY, "merchant_id", "timestamp", "is_fraud", *FEATURE_NAMES]


@dataclass(frozen=True)
class Clock:
    """What was known when: `as_of` and `mature` (the newest transaction that may be in it), ms."""

    as_of: int
    mature: int


@dataclass(frozen=True)
class Built:
    """Rows with COLUMNS, sorted by time, user and id, and how many got their features from the builder."""

    rows: pl.DataFrame
    rebuilt: int


class Source:
    """The lake in a cut."""

    def __init__(self, lake: Lake, cut: Mapping[str, int], clock: Clock) -> None:
        self._lake, self._cut, self._clock = lake, cut, clock
        self._changes: pl.DataFrame | None = None  # of every merchant; read where the builder is needed

    def users(self) -> pl.DataFrame:
        """Return user_id, bucket and transactions of every user with an accepted transaction."""
        counted = read.accepted(self._lake, self._cut).group_by("user_id").agg(pl.len().alias("transactions"))
        with reading("the lake's transactions"):
            users = counted.collect(engine="streaming")
        buckets = pl.Series("bucket", [bucket_of(user) for user in users["user_id"].to_list()], pl.Int64)
        return users.with_columns(buckets).sort("user_id")

    def build(self, users: pl.DataFrame) -> Built:
        """Return the rows of these users."""
        those = users.lazy().select("user_id")
        whole = read.transactions(read.accepted(self._lake, self._cut).join(those, on="user_id", how="semi"))
        with reading("the lake's transactions"):
            transactions = whole.collect()
        transactions = transactions.with_row_index("row")
        mature = transactions.filter(pl.col("timestamp").dt.epoch("ms") <= self._clock.mature)
        seen = mature.select("row", *KEY, "partition", "offset").join(
            self._logged(those), on=[*KEY, "partition", "offset"], how="left", maintain_order="left"
        )
        unseen = seen.filter(pl.col("features").is_null())["row"]
        features = seen.select("row", pl.col("features").struct.unnest())
        if len(unseen):
            features = features.filter(~pl.col("row").is_in(unseen.implode()))
            features = pl.concat([features, self._made(transactions, unseen)])
        rows = (
            mature.select("row", *KEY, "merchant_id", "timestamp")
            .join(self._verdicts(those), on=KEY, how="left")
            .with_columns(pl.col("is_fraud").fill_null(False))
            .join(features, on="row", how="left")
            .sort("timestamp", *KEY, "row")
            .select(COLUMNS)
        )
        return Built(rows, len(unseen))

    def _logged(self, users: pl.LazyFrame) -> pl.DataFrame:
        """Return the features that the model saw, once per transaction's position; a repeat has the same bytes."""
        predictions = (
            self._lake.at(PREDICTIONS, self._cut)
            .filter(pl.col("feature_version") == FEATURE_VERSION)
            .join(users, on="user_id", how="semi")
            .select(
                *KEY,
                pl.col("source_partition").alias("partition"),
                pl.col("source_offset").alias("offset"),
                "features",
            )
        )
        with reading("the lake's predictions"):
            return predictions.collect().unique([*KEY, "partition", "offset"], keep="any")

    def _verdicts(self, users: pl.LazyFrame) -> pl.DataFrame:
        """Return what was known of each labelled transaction: its greatest (labelled_at, position) by the clock."""
        labels = (
            self._lake.at(LABELS, self._cut)
            .filter(pl.col("labelled_at").dt.epoch("ms") <= self._clock.as_of)
            .join(users, on="user_id", how="semi")
            .select(*KEY, "is_fraud", "labelled_at", "topic_id", "partition", "offset")
        )
        with reading("the lake's labels"):
            known = labels.collect()
        rank = ["labelled_at", pl.col("topic_id") != BACKFILL, "partition", "offset"]
        return known.sort(rank).unique(KEY, keep="last", maintain_order=True).select(*KEY, "is_fraud")

    def _made(self, transactions: pl.DataFrame, wanted: pl.Series) -> pl.DataFrame:
        """Return the builder's features of the wanted rows: over whole histories, in arrival order."""
        if self._changes is None:
            self._changes = read.changes(self._lake.at(PROFILE_CHANGES, self._cut))
        whose = transactions.filter(pl.col("row").is_in(wanted.implode())).select("user_id").unique()
        histories = transactions.join(whose, on="user_id", how="semi", maintain_order="left")
        built = build_features(histories, self._changes)
        made = pl.DataFrame(built.matrix, schema=dict.fromkeys(FEATURE_NAMES, pl.Float64)).fill_nan(None)
        made = pl.concat([histories.select("row"), made], how="horizontal")
        return made.filter(pl.col("row").is_in(wanted.implode()))


def bucket_of(user: str) -> int:
    """Return a user's bucket.

    >>> bucket_of("c1")
    2
    """
    return xxhash.xxh3_64_intdigest(user) % BUCKETS


def hashes(rows: pl.DataFrame) -> dict[int, str]:
    """Return bucket → sha256 of its rows; `rows` are sorted and hold each bucket's users whole or not at all."""
    names = rows["user_id"].unique()
    buckets = pl.Series([bucket_of(name) for name in names.to_list()], dtype=pl.Int64)
    of = rows["user_id"].replace_strict(names, buckets, return_dtype=pl.Int64)
    return {
        int(bucket): _hash(part)
        for (bucket,), part in rows.with_columns(of.alias("_bucket")).group_by("_bucket", maintain_order=True)
    }


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
