"""Load a past into the lake and the online store: users' histories and merchant profiles, whole or not at all.

While it loads it holds the leases of the score job and of the archive job, so that no stream decides on half a
past, or adds to it. Besides it takes a lease of its own, `backfill`, which is given back at the very end: one
that a crash left behind says that store and lake hold part of a past (`unfinished`), and the next backfill asks
for a wipe.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from fraud import bus, profiles
from fraud.backfill import checkpoint
from fraud.backfill.archived import append_past
from fraud.backfill.holding import Clock, Holding, held, take
from fraud.backfill.record import Loaded
from fraud.builder import bulk_changes, last_quarter, pack_histories, pack_profiles
from fraud.errors import DataError, StateError
from fraud.lake import Lake
from fraud.rejections import FUTURE_MS
from fraud.store.base import Histories, Store
from fraud.store.unfinished import MARKER, unfinished
from fraud.times import format_time


@dataclass(frozen=True)
class Archive:
    """Where a past is archived, and under which name: the query of its batches."""

    lake: Lake
    query: str


@dataclass(frozen=True)
class Past:
    """What is loaded.

    Attributes:
        transactions: in arrival order, as `fraud.builder` reads them.
        labels: with is_fraud and labelled_at; those of the future count from their own time on.
        until: ms since the epoch: histories hold the transactions before it; None: all. Profiles hold all of
            them in any case: a change counts from its effective quarter on. With a lake they don't: what comes
            later is streamed, and the archive job counts it then.
        merchants_only: whether histories are left alone.
    """

    transactions: pl.DataFrame
    labels: pl.DataFrame | None
    until: int | None = None
    merchants_only: bool = False

    def arrived(self) -> pl.DataFrame:
        """Return the transactions that make the users' histories, in arrival order."""
        if self.merchants_only:
            return self.transactions.clear()
        if self.until is None:
            return self.transactions
        return self.transactions.filter(pl.col("timestamp").dt.epoch("ms") < self.until)

    def until_then(self) -> "Past":
        """Return the past without what comes after `until`: transactions from then on, labels given later."""
        if self.until is None:
            return self
        labels = self.labels
        if labels is not None:
            labels = labels.filter(pl.col("labelled_at").dt.epoch("ms") <= self.until)
        return Past(self.arrived(), labels)


def load(
    past: Past,
    store: Store,
    *,
    partitions: int,
    clock: Clock,
    wipe: bool = False,
    checkpoints: Sequence[Path] = (),
    archive: Archive | None = None,
    say: Callable[[str], None] = lambda _words: None,
    keep: Callable[[Loaded | None], None] = lambda _loaded: None,
) -> Loaded:
    """Load a past; `profile_through` is set last, after every history is written.

    Args:
        partitions: of the topic `transactions`.
        wipe: empty histories, positions, outbox, profiles and lake first (the model stays).
        checkpoints: Spark's, removed with a wipe: they would go on where no position is known any more.
        archive: the lake, and the past's name in it; None leaves it alone. Merchants alone aren't archived: no
            transaction of theirs was accepted.
        keep: called with None before anything changes, and with the outcome before the marker is given back.

    Raises:
        StateError: store or lake hold a past, a stream's state or an unfinished backfill, and `wipe` is false.
        DataError: there is nothing to load, or transactions lie beyond now.
        FencedError: a score job or an archive job is running; the message names it.
        ServiceError: the lake is away.
    """
    started = time.perf_counter()
    _check_data(past, clock())
    if past.merchants_only:
        archive = None
    if archive is not None:
        past = past.until_then()
    with ExitStack() as stack:
        holding = stack.enter_context(held(store.histories, clock))
        if not wipe:
            _check_empty(store, past)
            if archive is not None:
                _check_lake(archive.lake)
        marker = take(store.histories, MARKER, clock, ttl=0)  # nobody takes it without the other lease
        keep(None)
        if wipe:
            store.profiles.wipe()
            store.histories.wipe()
            for folder in checkpoints:
                checkpoint.remove(folder)
            if archive is not None:
                archive.lake.wipe()
        if archive is not None:
            append_past(
                archive.lake,
                past.transactions,
                past.labels,
                query=archive.query,
                between=holding.renew_in_time,
                say=say,
            )
        changes = bulk_changes(past.transactions, past.labels)
        arrived = past.arrived()
        users = _load_histories(store.histories, arrived, partitions, holding) if len(arrived) else 0
        through = last_quarter(past.transactions)
        merchants = store.profiles.load(holding.while_loading(pack_profiles(changes)), through)
        outcome = Loaded(
            users=users,
            merchants=merchants,
            rows=len(arrived),
            changes=len(changes),
            profile_through=format_time(through * profiles.QUARTER_MS),
            seconds=round(time.perf_counter() - started, 2),
            archived=0 if archive is None else len(past.transactions),
        )
        keep(outcome)
        store.histories.release(marker)
    return outcome


def _load_histories(histories: Histories, arrived: pl.DataFrame, partitions: int, holding: Holding) -> int:
    parts: list[list[tuple[str, bytes]]] = [[] for _ in range(partitions)]
    for user, packed in pack_histories(arrived).items():
        parts[bus.partition_of(user, partitions)].append((user, packed))
    return sum(histories.load(number, holding.while_loading(part)) for number, part in enumerate(parts))


def _check_data(past: Past, now: int) -> None:
    """Refuse what can't be a past."""
    if past.transactions.is_empty():
        raise DataError("there is no transaction to load")
    newest = int(past.transactions["timestamp"].dt.epoch("ms").max())  # type: ignore[arg-type]
    if newest > now + FUTURE_MS:  # the stream itself takes ten minutes ahead
        raise DataError(
            f"the newest transaction is of {format_time(newest)}, beyond now ({format_time(now)}): a past can't "
            "lie in the future; simulate one that ends today (`fraud-detect simulate --start`)"
        )
    if not past.merchants_only and past.until is not None and past.arrived().is_empty():
        raise DataError(f"no transaction lies before {format_time(past.until)}: there is no history to load")


def _check_empty(store: Store, past: Past) -> None:
    """Refuse a store that holds something already."""
    broken = unfinished(store)
    if broken is not None:
        raise StateError(broken)
    through = store.profiles.through()
    if through is not None:
        raise StateError(
            f"the online store holds merchant profiles up to {format_time(through * profiles.QUARTER_MS)} already; "
            "--wipe empties it first"
        )
    if store.histories.positions() and not past.merchants_only:
        raise StateError(
            "a score job has written histories into the online store already, and a past can't be put before "
            "them; --wipe empties it first"
        )


def _check_lake(lake: Lake) -> None:
    """Refuse a lake that holds something already."""
    tables = lake.cut()
    if tables:
        raise StateError(
            f"the lake {lake.place.uri} holds {', '.join(tables)} already; --wipe removes its tables and the training "
            "sets made of them, --no-lake leaves it alone"
        )
