"""Make the online store from the lake and the topics' tails: histories, profiles, positions, a new checkpoint.

A store that was deleted, damaged or is an older copy can't be scored on: histories would begin in the middle. What
it held follows from what was archived and published. The outbox is gone for good, and isn't missed: a position
is the contiguous end of the answers that exist, so that nothing below it is ever asked for again.

What can't come back is a decision that no answer tells of. An answer behind a hole, which a job that was killed
while it published may have left, is decided again: from the same history, at another time.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import polars as pl

from fraud import answers, bus, profiles
from fraud.backfill import checkpoint
from fraud.backfill.holding import Clock, Holding, held
from fraud.builder import pack_histories, pack_profiles
from fraud.errors import DataError, StateError
from fraud.lake import ARCHIVE, Lake, read, reading
from fraud.lake.tables import BACKFILL, PROFILE_CHANGES, TRANSACTIONS
from fraud.rebuild.found import Found, find
from fraud.settings import Settings
from fraud.store.base import PartitionKey, SliceCommit, Store
from fraud.store.leases import SCORE
from fraud.store.unfinished import begin_rebuild, broken, unfinished
from fraud.times import format_time

BUCKET_ROWS = 2_000_000  # transactions whose histories are made at once
WINDOW_DAYS = 38  # the longest that a read looks back, and a day
QUARTERS_PER_DAY = 96

ENDS = "ends.json"

Say = Callable[[str], None]


class _Ends(msgspec.Struct):
    queries: list[str]


@dataclass(frozen=True)
class Rebuilt:
    """What was written; `profile_through` is the start of a quarter-hour as messages have it."""

    rows: int  # transactions in the histories
    users: int
    merchants: int
    profile_through: str | None
    applied: str | None  # the archive job's last batch in the profiles
    positions: dict[int, int]
    collected: int  # accepted without a model
    expired: int  # offsets without an answer that the topic doesn't hold any more
    seconds: float


def rebuild(settings: Settings, store: Store, lake: Lake, *, clock: Clock, say: Say = lambda _words: None) -> Rebuilt:
    """Make histories, profiles and positions anew; the model in the store stays, if there is one.

    Everything is read before anything is removed. Cut short in the middle it leaves a store that no job starts
    on (`fraud.store.unfinished`); the next rebuild makes it whole.

    Raises:
        FencedError: a score job, an archive job or a load is at work; the message names it.
        StateError: a backfill broke off: its past is in the lake in part only. Or a topic is missing.
        DataError: lake and topics hold nothing, or a table is damaged.
        ServiceError: Kafka or S3 is away.
    """
    started = time.perf_counter()
    with held(store.histories, clock) as holding:
        if broken(store) == "backfill":
            raise StateError(unfinished(store) or "")
        topic = bus.describe(settings.kafka_bootstrap, bus.TRANSACTIONS)
        say("reading the lake and the topics' tails")
        found = find(settings.kafka_bootstrap, lake, topic)
        holding.renew_in_time()
        with reading(f"the lake {lake.place.uri}"):
            rows = int(found.accepted.select(pl.len()).collect().item())
        changes = read.changes(lake.scan(PROFILE_CHANGES))
        if not rows and changes.is_empty() and not any(one.position for one in found.reached.values()):
            raise DataError(
                f"neither the lake {lake.place.uri} nor {TRANSACTIONS.topic} holds anything to make a store from; "
                "load a past with `fraud-detect backfill DIR`, or just start the jobs"
            )
        through, applied = _reach(lake)
        marker = begin_rebuild(store, clock())
        store.profiles.wipe()
        store.histories.wipe()
        checkpoint.remove(settings.checkpoint)
        say(f"{rows:,} transactions' histories, {changes.height:,} changes of merchant profiles")
        users = _load_histories(store, found, rows, topic.partitions, holding)
        merchants = 0
        if through is not None:
            kept = _kept(changes, through, settings.max_age_days)
            merchants = store.profiles.load(holding.while_loading(pack_profiles(kept)), through, applied)
        _go_on(store, found, topic, holding, clock())
        store.histories.release(marker)
    return Rebuilt(
        rows=rows,
        users=users,
        merchants=merchants,
        profile_through=None if through is None else format_time(through * profiles.QUARTER_MS),
        applied=applied,
        positions={number: one.position for number, one in found.reached.items()},
        collected=sum(int(np.diff(part, axis=1).sum()) for part in found.collected.values()),
        expired=sum(one.expired for one in found.reached.values()),
        seconds=round(time.perf_counter() - started, 2),
    )


def _load_histories(store: Store, found: Found, rows: int, partitions: int, holding: Holding) -> int:
    """Load every user's history, so many users at once that their rows fit into memory."""
    buckets = rows // BUCKET_ROWS + 1
    loaded = 0
    for number in range(buckets):
        mine = found.accepted.filter(pl.col("user_id").hash(0) % buckets == number)
        with reading("the lake's transactions"):
            arrived = _as_arrived(read.transactions(mine)).collect()
        parts: list[list[tuple[str, bytes]]] = [[] for _ in range(partitions)]
        for user, packed in pack_histories(arrived).items() if len(arrived) else ():
            parts[bus.partition_of(user, partitions)].append((user, packed))
        for partition, part in enumerate(parts):
            loaded += store.histories.load(partition, holding.while_loading(part))
    return loaded


def _as_arrived(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Put a topic's partitions in the broker's order: where some were added, users went from one to another."""
    at = pl.col("broker_time").cum_max().over("topic_id", "partition")  # never against a partition's own order
    return rows.sort(pl.col("topic_id").rle_id(), at, maintain_order=True)


def _reach(lake: Lake) -> tuple[int | None, str | None]:
    """Return the newest transaction quarter archived, and the marker of the archive job's newest batch."""
    table = lake.scan(PROFILE_CHANGES)
    with reading("the lake's table profile_changes"):
        through = table.filter(pl.col("transactions") == 1).select(pl.col("quarter").max()).collect().item()
        streamed = table.filter(pl.col("topic_id") != BACKFILL)
        newest = dict(streamed.group_by("query").agg(pl.col("batch").max()).collect().iter_rows())
    # The order that the archive job itself goes by: a batch after the marker would be applied a second time.
    order = {query: number for number, query in enumerate(_queries(lake))}
    last = max(newest, key=lambda query: (order.get(query, -1), query), default=None)
    return through, None if last is None else f"{last}/{newest[last]}"


def _queries(lake: Lake) -> list[str]:
    """Return the archive job's queries in the order in which they wrote, as it keeps them (`spark_jobs.archive_ends`).

    Raises:
        DataError: its file says something else. ServiceError: the lake is away.
    """
    if ENDS not in lake.place.sizes(ARCHIVE):
        return []
    try:
        return msgspec.json.decode(lake.place.read(f"{ARCHIVE}/{ENDS}"), type=_Ends).queries
    except msgspec.MsgspecError as exc:
        raise DataError(f"{lake.place.uri}/{ARCHIVE}/{ENDS} doesn't name the archive job's queries ({exc})") from exc


def _kept(changes: pl.DataFrame, through: int, max_age_days: float | None) -> pl.DataFrame:
    """Leave out the changes that no read can reach any more, as the archive job does."""
    if max_age_days is None:
        return changes
    return changes.filter(pl.col("quarter") >= through - round((WINDOW_DAYS + max_age_days) * QUARTERS_PER_DAY))


def _go_on(store: Store, found: Found, topic: bus.TopicState, holding: Holding, now: int) -> None:
    """Set positions and marks, and what was collected below them; nothing below a mark is published again."""
    keys = {number: PartitionKey(topic.id, number) for number in found.reached}
    reached = {keys[number]: one.position for number, one in found.reached.items()}
    firsts = {keys[number]: int(part[0, 0]) for number, part in found.collected.items() if len(part)}
    lease = holding.lease(SCORE)
    store.histories.start(reached | firsts, lease)
    for number, part in found.collected.items():
        key = keys[number]
        if len(part):
            empty = answers.empty()
            store.histories.commit(
                SliceCommit(key, lease.epoch, firsts[key], reached[key], {}, empty, now, collected=part)
            )
    store.histories.set_marks(reached, lease)
