"""The rows of a training set, some users at a time: what was accepted, what was known of it, what the model saw."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from fraud.archive.clock import RANK
from fraud.builder import build_features
from fraud.dataset.content import COLUMNS, KEY, NAMED, buckets_of
from fraud.dataset.merchants import Merchants
from fraud.features import ACCEPTED, FEATURE_NAMES, FEATURE_VERSION
from fraud.lake import Lake, read, reading
from fraud.lake.tables import BACKFILL, LABELS, PREDICTIONS, PROFILE_CHANGES, TRANSACTIONS

Features = npt.NDArray[np.float64]  # shape (features, rows): a column of the table is one piece of memory
_UNUSED = ["date", "currency", "query", "batch"]


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
    """The lake in a cut. Tables are streamed: in memory are the users' rows that are built, and one row a user."""

    def __init__(self, lake: Lake, cut: Mapping[str, int], clock: Clock) -> None:
        self._tables = {
            table.name: lake.at(table, cut) for table in (TRANSACTIONS, PREDICTIONS, LABELS, PROFILE_CHANGES)
        }
        self._clock = clock

    def groups(self, at_once: int) -> Iterator[pl.DataFrame]:
        """Yield user_id of users who have about `at_once` accepted transactions together, whole buckets of them."""
        buckets = self._users.group_by("bucket").agg(pl.col("transactions").sum()).sort("bucket")
        group: list[int] = []
        held = 0
        for bucket, transactions in buckets.iter_rows():
            if group and held + transactions > at_once:
                yield self._in(group)
                group, held = [], 0
            group.append(bucket)
            held += transactions
        if group:
            yield self._in(group)

    def has_rows(self, users: pl.DataFrame) -> bool:
        """Tell whether one of these users has a transaction that is old enough."""
        with reading("the lake's transactions"):
            return bool(self._accepted(users).filter(self._mature).select(pl.len()).collect(engine="streaming").item())

    def build(self, users: pl.DataFrame) -> Built:
        """Return the rows of these users."""
        with reading("the lake's transactions"):
            found = self._accepted(users).drop(_UNUSED).collect(engine="streaming")
            arrived = (
                read.transactions(found.lazy(), self._incarnations[TRANSACTIONS.name].lazy())
                .collect()
                .with_row_index("row")
            )
        del found
        mature = arrived.filter(self._mature).select(
            "row", *KEY, "merchant_id", "timestamp", *read.SOURCE, "broker_time"
        )
        rows = (
            mature.join(self._verdicts(users), on=KEY, how="left")
            .with_columns(pl.col("is_fraud").fill_null(False))
            .sort("timestamp", *KEY, "row")
        )
        features = np.full((len(FEATURE_NAMES), len(rows)), np.nan)
        unseen = self._fill_logged(features, rows, users)
        rows = rows.select("row", *NAMED)
        if len(unseen):
            self._fill_made(features, arrived, rows["row"].gather(unseen), unseen)
        del arrived
        columns = [pl.Series(name, features[i]).fill_nan(None) for i, name in enumerate(FEATURE_NAMES)]
        return Built(rows.with_columns(columns).select(COLUMNS), len(unseen))

    @cached_property
    def _users(self) -> pl.DataFrame:
        """user_id, bucket and transactions of every user with an accepted transaction."""
        counted = (
            read.counted(self._tables[PROFILE_CHANGES.name]).group_by("user_id").agg(pl.len().alias("transactions"))
        )
        with reading("the lake's transactions"):
            users = counted.collect(engine="streaming")
        return users.with_columns(buckets_of(users["user_id"]).alias("bucket"))

    @cached_property
    def _incarnations(self) -> dict[str, pl.DataFrame]:
        """Each table's, of all users: whose rows are built together must not matter."""
        with reading("the lake"):
            return {
                name: read.incarnations(self._tables[name]).collect(engine="streaming")
                for name in (TRANSACTIONS.name, LABELS.name)
            }

    @cached_property
    def _merchants(self) -> Merchants:
        return Merchants(self._tables[PROFILE_CHANGES.name])

    @property
    def _mature(self) -> pl.Expr:
        return pl.col("timestamp").dt.epoch("ms") <= self._clock.mature

    def _in(self, buckets: list[int]) -> pl.DataFrame:
        return self._users.filter(pl.col("bucket").is_in(buckets)).select("user_id")

    def _accepted(self, users: pl.DataFrame) -> pl.LazyFrame:
        mine = {name: rows.join(users.lazy(), on="user_id", how="semi") for name, rows in self._tables.items()}
        return read.accepted_of(mine[TRANSACTIONS.name], mine[PROFILE_CHANGES.name])

    def _fill_logged(self, features: Features, rows: pl.DataFrame, users: pl.DataFrame) -> npt.NDArray[np.int64]:
        """Fill in what the model saw; return which rows have no prediction with our features, shape (n,).

        A prediction answers the record of a topic at its source position, never what was loaded, and isn't older
        than it; of several the first counts: a repeat has the same bytes.
        """
        predictions = (
            self._tables[PREDICTIONS.name]
            .filter(pl.col("feature_version") == FEATURE_VERSION)
            .join(users.lazy(), on="user_id", how="semi")
            .select(
                *KEY,
                pl.col("source_partition").alias("partition"),
                pl.col("source_offset").alias("offset"),
                pl.col("broker_time").alias("answered"),
                pl.col("partition").alias("own_partition"),
                pl.col("offset").alias("own_offset"),
                "features",
            )
        )
        with reading("the lake's predictions"):
            logged = predictions.collect(engine="streaming").with_row_index("prediction")
        where = [*KEY, "partition", "offset"]
        answers = (
            rows.with_row_index("at")
            .filter(pl.col("topic_id") != BACKFILL)
            .select("at", *where, "broker_time")
            .join(logged.drop("features"), on=where)
            .filter(pl.col("answered") >= pl.col("broker_time"))
            .sort("at", "answered", "own_partition", "own_offset")
            .unique("at", keep="first", maintain_order=True)
        )
        at, which = answers["at"].to_numpy(), answers["prediction"]
        for i, name in enumerate(FEATURE_NAMES):
            seen = logged["features"].struct.field(name).gather(which)
            features[i, at] = seen.fill_null(np.nan).to_numpy()
        unseen = np.ones(len(rows), bool)
        unseen[at] = False
        return np.flatnonzero(unseen)

    def _verdicts(self, users: pl.DataFrame) -> pl.DataFrame:
        """Return what was known of each labelled transaction: its greatest (labelled_at, position) by the clock."""
        labels = (
            self._tables[LABELS.name]
            .filter(pl.col("labelled_at").dt.epoch("ms") <= self._clock.as_of)
            .join(users.lazy(), on="user_id", how="semi")
            .select(*KEY, "is_fraud", "labelled_at", *read.SOURCE)
        )
        with reading("the lake's labels"):
            known = labels.collect(engine="streaming")
        ranked = known.join(self._incarnations[LABELS.name], on="topic_id", how="left").sort(RANK)
        return ranked.unique(KEY, keep="last", maintain_order=True).select(*KEY, "is_fraud")

    def _fill_made(
        self, features: Features, arrived: pl.DataFrame, wanted: pl.Series, at: npt.NDArray[np.int64]
    ) -> None:
        """Fill in the builder's features of the wanted rows: over whole histories, in arrival order."""
        whose = arrived.filter(pl.col("row").is_in(wanted.implode())).select("user_id").unique()
        histories = arrived.join(whose, on="user_id", how="semi", maintain_order="left")
        built = build_features(histories, None)
        accepted = np.flatnonzero(built.status == ACCEPTED)
        mine = built.matrix[accepted]
        self._merchants.fill(mine, histories[accepted])
        built.matrix[accepted] = mine
        place = np.searchsorted(histories["row"].to_numpy(), wanted.to_numpy())
        features[:, at] = built.matrix[place].T
