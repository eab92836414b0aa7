"""Load a past into the online store: users' histories and merchant profiles, whole or not at all.

While it loads it holds the score job's lease, so that no stream decides on half a past. Besides it takes a
lease of its own, `backfill`, which is given back at the very end: one that a crash left behind says that the
store holds part of a past (`unfinished`), and the next backfill asks for a wipe.
"""

import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import polars as pl

from fraud import bus, profiles
from fraud.backfill.record import Loaded
from fraud.builder import bulk_changes, last_quarter, pack_histories, pack_profiles
from fraud.errors import DataError, StateError
from fraud.rejections import FUTURE_MS
from fraud.store.base import Histories, Lease, Store
from fraud.store.leases import SCORE
from fraud.store.unfinished import MARKER, unfinished
from fraud.times import format_time

TTL_MS = 60_000
RENEW_MS = 10_000

Clock = Callable[[], int]  # ms since the epoch
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Past:
    """What is loaded.

    Attributes:
        transactions: in arrival order, as `fraud.builder` reads them.
        labels: with is_fraud and labelled_at; those of the future count from their own time on.
        until: ms since the epoch: histories hold the transactions before it; None: all. Profiles hold all of
            them in any case: a change counts from its effective quarter on.
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


def load(
    past: Past,
    store: Store,
    *,
    partitions: int,
    clock: Clock,
    wipe: bool = False,
    checkpoint: Path | None = None,
    keep: Callable[[Loaded | None], None] = lambda _loaded: None,
) -> Loaded:
    """Load a past; `profile_through` is set last, after every history is written.

    Args:
        partitions: of the topic `transactions`.
        wipe: empty histories, positions, outbox and profiles first (the model stays).
        checkpoint: Spark's, removed with a wipe: it would go on where no position is known any more.
        keep: called with None before anything changes, and with the outcome before the marker is given back.

    Raises:
        StateError: the store holds a past, a stream's state or an unfinished backfill, and `wipe` is false.
        DataError: there is nothing to load, or transactions lie beyond now.
        FencedError: a score job is running; the message names it.
    """
    started = time.perf_counter()
    _check_data(past, clock())
    with ExitStack() as stack:
        held = stack.enter_context(_held(store.histories, clock))
        if not wipe:
            _check_empty(store, past)
        marker = _take(store.histories, MARKER, clock, ttl=0)  # nobody takes it without the other lease
        keep(None)
        if wipe:
            store.profiles.wipe()
            store.histories.wipe()
            if checkpoint is not None:
                _remove(checkpoint)
        changes = bulk_changes(past.transactions, past.labels)
        arrived = past.arrived()
        users = _load_histories(store.histories, arrived, partitions, held) if len(arrived) else 0
        through = last_quarter(past.transactions)
        merchants = store.profiles.load(held.while_loading(pack_profiles(changes)), through)
        outcome = Loaded(
            users=users,
            merchants=merchants,
            rows=len(arrived),
            changes=len(changes),
            profile_through=format_time(through * profiles.QUARTER_MS),
            seconds=round(time.perf_counter() - started, 2),
        )
        keep(outcome)
        store.histories.release(marker)
    return outcome


class _Holding:
    """The score job's lease in our hands, prolonged as the load goes on."""

    def __init__(self, histories: Histories, lease: Lease, clock: Clock) -> None:
        self._histories, self._lease, self._clock = histories, lease, clock
        self._renewed = clock()

    def while_loading(self, rows: Iterable[_Item]) -> Iterator[_Item]:
        """Yield the rows, and prolong the lease in between; raises FencedError if it is lost."""
        for row in rows:
            if self._clock() - self._renewed > RENEW_MS:
                self.renew()
            yield row
        self.renew()

    def renew(self) -> None:
        self._renewed = self._clock()
        self._lease = self._histories.renew(self._lease, now=self._renewed, ttl=TTL_MS)

    def release(self) -> None:
        self._histories.release(self._lease)


@contextmanager
def _held(histories: Histories, clock: Clock) -> Iterator[_Holding]:
    holding = _Holding(histories, _take(histories, SCORE, clock), clock)
    try:
        yield holding
    finally:
        holding.release()


def _take(histories: Histories, name: str, clock: Clock, ttl: int = TTL_MS) -> Lease:
    owner = uuid.uuid4().hex
    return histories.acquire(name, owner, host=socket.gethostname(), pid=os.getpid(), now=clock(), ttl=ttl)


def _remove(checkpoint: Path) -> None:
    try:
        if checkpoint.exists():
            shutil.rmtree(checkpoint)
    except OSError as exc:
        raise StateError(f"the checkpoint {checkpoint} can't be removed ({exc}): remove it, and begin again") from exc


def _load_histories(histories: Histories, arrived: pl.DataFrame, partitions: int, held: _Holding) -> int:
    parts: list[list[tuple[str, bytes]]] = [[] for _ in range(partitions)]
    for user, packed in pack_histories(arrived).items():
        parts[bus.partition_of(user, partitions)].append((user, packed))
    return sum(histories.load(number, held.while_loading(part)) for number, part in enumerate(parts))


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
