"""`bench features`: what the feature kernels cost per event, by how much past they read; one thread."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fraud import features, history, profiles
from fraud.bench.processes import load, machine
from fraud.bench.timing import measure
from fraud.features import FEATURE_NAMES
from fraud.features.kernel import DAY_MS, DELAY_QUARTERS
from fraud.history import ENTRY, EVENT, Events, Histories

LENGTHS = (1, 10, 60, 100, 400, 512)  # entries of a history
CHANGES = (1, 10, 100, 1_000)  # changes of a merchant inside the longest window
NOW_MS = 1_790_000_000_000
WINDOW_DAYS = 30

Say = Callable[[str], None]


@dataclass(frozen=True)
class Past:
    """One event of each of several users, and the users' histories, all of one length."""

    events: Events
    bounds: npt.NDArray[np.int64]
    histories: Histories

    def fold(self) -> features.Folded:
        """Compute the events' user features."""
        return features.fold(self.events, self.bounds, self.histories)


def past(users: int, length: int, seed: int = 0) -> Past:
    """Return users with `length` entries each, spread over the longest window, and an event of each of them now."""
    rng = np.random.default_rng(seed)
    entries = _rows(rng, users * length, ENTRY)
    step = WINDOW_DAYS * DAY_MS // (length + 1)
    entries["time"] = np.tile(NOW_MS - step * np.arange(length, 0, -1), users)
    events = _rows(rng, users, EVENT)
    events["time"] = NOW_MS
    bounds = np.arange(users + 1, dtype=np.int64)
    newest = np.full(users, NOW_MS - step, np.int64)
    return Past(events, bounds, Histories(entries, bounds * length, newest))


def run(events: int, repeats: int, say: Say, lengths: Sequence[int] = LENGTHS) -> dict[str, Any]:
    """Measure batches of `events` and single events.

    Returns:
        {events, entries: {length: {fold, fold_one, unpack, pack}}, merchants: {changes: {batch, one}}, repeats,
        load, machine}; every figure is {median, range} in ns per event. `fold_one` and `one` are whole calls for
        one event; unpack and pack are between the store's bytes and the kernel.
    """
    busy = load()
    entries, merchants = {}, {}
    for length in lengths:
        entries[str(length)] = _users(events, length, repeats)
        say(f"history of {length}: {entries[str(length)]['fold']['median']:,.0f} ns per event")
    for changes in CHANGES:
        merchants[str(changes)] = _merchants(events, changes, repeats)
        say(f"merchant with {changes:,} changes: {merchants[str(changes)]['batch']['median']:,.0f} ns per event")
    return {
        "events": events,
        "entries": entries,
        "merchants": merchants,
        "repeats": repeats,
        "load": busy,
        "machine": machine(),
    }


def _users(events: int, length: int, repeats: int) -> dict[str, Any]:
    many, one = past(events, length), past(1, length)
    known, bounds = many.histories, many.histories.bounds

    def pack() -> list[bytes]:
        return history.pack_all(known.newest, known.entries, bounds[:-1], bounds[1:])

    packed = pack()
    timings = measure(
        {
            "fold": many.fold,
            "fold_one": one.fold,
            "unpack": lambda: history.unpack(packed),
            "pack": pack,
        },
        repeats,
    )
    per = {"fold_one": 1}
    return {name: timing.figures(1e9 / per.get(name, events)) for name, timing in timings.items()}


def _merchants(events: int, changes: int, repeats: int) -> dict[str, Any]:
    """Time merchants with so many changes in the window, each asked for once."""

    def call(count: int) -> Callable[[], None]:
        end = profiles.quarter_of(NOW_MS) - DELAY_QUARTERS
        known = np.zeros(count * changes, profiles.CHANGE)
        quarters = np.sort(np.random.default_rng(0).integers(end - WINDOW_DAYS * 96, end, changes))
        known["quarter"] = np.tile(quarters, count)
        known["effective"] = known["quarter"] + profiles.GRACE_QUARTERS
        known["transactions"] = 1
        owners = np.arange(count, dtype=np.int64)
        held = profiles.Profiles(known, np.arange(count + 1, dtype=np.int64) * changes)
        matrix = np.full((count, len(FEATURE_NAMES)), np.nan)
        times = np.full(count, NOW_MS, np.int64)
        return lambda: features.add_merchant_features(matrix, times, owners, held)

    timings = measure({"batch": call(events), "one": call(1)}, repeats)
    return {"batch": timings["batch"].figures(1e9 / events), "one": timings["one"].figures(1e9)}


def _rows(rng: np.random.Generator, count: int, dtype: np.dtype[Any]) -> npt.NDArray[np.void]:
    """Return rows as a user's are: twenty merchants, two devices, three countries, positions known."""
    rows = np.zeros(count, dtype)
    rows["amount"] = rng.lognormal(3.0, 1.0, count)
    for name, kinds in (("merchant", 20), ("device", 2), ("country", 3)):
        rows[name] = rng.integers(1, kinds + 1, count)
    rows["lat"], rows["lon"] = rng.uniform(47.0, 55.0, count), rng.uniform(6.0, 15.0, count)
    rows["txn"], rows["digest"] = rng.integers(1, 2**63, (2, count), dtype=np.uint64)
    return rows
