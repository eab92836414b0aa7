"""The only place that computes a feature: one table, one kernel, three callers.

The offline builder runs it over whole histories, the score job over a micro-batch with stored histories,
`score_one` over a single transaction. Time is the event's; nothing here reads a clock. Sums and means are
taken over the window in arrival order, deviations in a second pass, so every caller does the same
arithmetic. Definitions and null rules: the table `FEATURES`, from which docs/features.md is made.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import numba
import numpy as np
import numpy.typing as npt

from fraud.history import MAX_AGE_MS, MAX_ENTRIES, Entries, Events, Histories
from fraud.profiles import QUARTER_MS, Profiles

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
DELAY_QUARTERS = 7 * 96 + 2  # labels take seven days; two quarters of grace for the archive
EARTH_KM = 6371.0088  # mean radius (IUGG)
LIMIT = 1e30  # results are cut here, so that the model's float32 never sees infinity

_F = TypeVar("_F")


def _compiled(function: _F) -> _F:
    """Compile with numba, cached on disk, without the GIL; nothing falls back to Python objects."""
    jit: Any = numba.njit(cache=True, nogil=True, error_model="numpy")
    compiled: _F = jit(function)
    return compiled


class Feature(NamedTuple):
    """One row of the table."""

    name: str
    kind: Literal["float", "count", "flag", "code"]
    rule: str
    null: str


FEATURES = (
    Feature("amount", "float", "as sent", "never"),
    Feature("rolling_avg_7d", "float", "mean amount in (t - 7 d, t]", "no history in the window"),
    Feature("user_avg_amount_30d", "float", "mean amount in (t - 30 d, t]", "no history in the window"),
    Feature("amount_to_avg_ratio", "float", "amount / rolling_avg_7d", "rolling_avg_7d is null"),
    Feature(
        "amount_zscore",
        "float",
        "(amount - mean) / standard deviation over 30 d, ddof 0",
        "fewer than two entries, or all amounts equal",
    ),
    Feature("user_txn_count_1h", "count", "transactions in (t - 1 h, t]", "never"),
    Feature("user_txn_count_24h", "count", "transactions in (t - 24 h, t]", "never"),
    Feature("user_txn_count_7d", "count", "transactions in (t - 7 d, t]", "never"),
    Feature("user_txn_count_30d", "count", "transactions in (t - 30 d, t]", "never"),
    Feature("user_amount_sum_1h", "float", "sum of amounts in (t - 1 h, t]", "never"),
    Feature("user_amount_sum_24h", "float", "sum of amounts in (t - 24 h, t]", "never"),
    Feature("unique_countries_24h", "count", "distinct known countries in (t - 24 h, t]", "never"),
    Feature("unique_merchants_24h", "count", "distinct merchants in (t - 24 h, t]", "never"),
    Feature(
        "country_change_flag", "flag", "1 if the country differs from the last known one", "either is unknown"
    ),
    Feature(
        "device_change_flag", "flag", "1 if the device differs from the last known one", "either is unknown"
    ),
    Feature("user_merchant_first_time", "flag", "1 if the merchant isn't in the last 30 d", "never"),
    Feature("minutes_since_last_txn", "float", "minutes to the latest earlier time", "no history"),
    Feature(
        "km_since_last_txn", "float", "great-circle distance to it", "no history, or a position is unknown"
    ),
    Feature("speed_kmh", "float", "that distance over that time", "no distance, or no time has passed"),
    Feature("hour_of_day", "code", "0-23, UTC", "never"),
    Feature("day_of_week", "code", "Monday 0, UTC", "never"),
    Feature("is_weekend", "flag", "Saturday or Sunday, UTC", "never"),
    Feature("is_night", "flag", "00:00-05:59 UTC", "never"),
    Feature("channel", "code", "position in the schema's list of channels", "absent"),
    Feature("merchant_category", "code", "the MCC as a number", "absent"),
    Feature("merchant_txn_count_1d", "count", "the merchant's transactions, 1 d ending 7 d ago", "never"),
    Feature("merchant_txn_count_7d", "count", "the same over 7 d", "never"),
    Feature("merchant_txn_count_30d", "count", "the same over 30 d", "never"),
    Feature("merchant_fraud_rate_1d", "float", "share of known frauds among them", "the count is 0"),
    Feature("merchant_fraud_rate_7d", "float", "the same over 7 d", "the count is 0"),
    Feature("merchant_fraud_rate_30d", "float", "the same over 30 d", "the count is 0"),
)
FEATURE_NAMES = tuple(feature.name for feature in FEATURES)
INTEGER_FEATURES = frozenset(feature.name for feature in FEATURES if feature.kind != "float")
MERCHANT_COLUMNS = slice(FEATURE_NAMES.index("merchant_txn_count_1d"), len(FEATURES))
USER_COLUMNS = slice(0, MERCHANT_COLUMNS.start)

# Raise the number when the arithmetic changes and the table doesn't.
FEATURE_VERSION = (
    "1-" + hashlib.sha256(repr((FEATURES, MAX_ENTRIES, MAX_AGE_MS, DELAY_QUARTERS)).encode()).hexdigest()[:8]
)

ACCEPTED, DUPLICATE, CONFLICTING = 0, 1, 2  # what the kernel says of an event

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Folded:
    """What came of folding events into histories.

    Attributes:
        matrix: shape (events, features), float64, NaN is null; rows of repeats are all NaN.
        status: shape (events,), int8: ACCEPTED, DUPLICATE or CONFLICTING.
        entries: working array; user i's new history is entries[start[i]:stop[i]], newest[i].
    """

    matrix: Matrix
    status: npt.NDArray[np.int8]
    entries: Entries
    start: npt.NDArray[np.int64]
    stop: npt.NDArray[np.int64]
    newest: npt.NDArray[np.int64]


def fold(events: Events, bounds: npt.NDArray[np.int64], histories: Histories) -> Folded:
    """Compute the user features of `events` in arrival order, each before it joins its user's history.

    Args:
        events: shape (n,), dtype EVENT, user after user, each in arrival order.
        bounds: shape (users + 1,), int64; user i owns events[bounds[i]:bounds[i + 1]].
        histories: the same users' histories before the first event.

    A transaction id that the history holds already is a repeat: it gets no features and leaves no trace.
    The merchant columns are left NaN; see `add_merchant_features`.
    """
    users = len(bounds) - 1
    matrix = np.full((len(events), len(FEATURES)), np.nan)
    status = np.zeros(len(events), np.int8)
    work = np.empty(len(histories.entries) + len(events), histories.entries.dtype)
    start, stop = np.empty(users, np.int64), np.empty(users, np.int64)
    newest = histories.newest.copy()
    _fold(events, bounds, histories.entries, histories.bounds, matrix, status, work, start, stop, newest)
    return Folded(matrix, status, work, start, stop, newest)


def add_merchant_features(
    matrix: Matrix, times: npt.NDArray[np.int64], merchants: npt.NDArray[np.int64], profiles: Profiles
) -> None:
    """Fill the merchant columns of `matrix` in place (the one output argument).

    Args:
        matrix: shape (n, features), as made by `fold`.
        times: shape (n,), ms since the epoch.
        merchants: shape (n,), each row's index into `profiles`.
        profiles: the merchants' changes; only those effective by the row's quarter count.
    """
    _merchants(times, merchants, profiles.changes, profiles.bounds, matrix, MERCHANT_COLUMNS.start)


@_compiled
def _fold(events, bounds, entries, entry_bounds, out, status, work, start, stop, newest):  # type: ignore[no-untyped-def]
    seen = np.zeros(
        2048, np.uint64
    )  # distinct merchants: open addressing, valid where the stamp is this row's
    seen_at = np.full(2048, -1, np.int64)
    countries_at = np.full(1024, -1, np.int64)
    free = 0
    for user in range(len(bounds) - 1):
        lo = hi = free
        oldest = np.iinfo(np.int64).max
        for j in range(entry_bounds[user], entry_bounds[user + 1]):
            work[hi] = entries[j]
            oldest = min(oldest, entries[j]["time"])
            hi += 1
        latest = newest[user]
        for i in range(bounds[user], bounds[user + 1]):
            event = events[i]
            status[i] = _repeat(event, work, lo, hi)
            if status[i] != 0:
                continue
            _read(event, work, lo, hi, out[i], seen, seen_at, countries_at, i)
            t = event["time"]
            latest = max(latest, t)
            cutoff = latest - MAX_AGE_MS
            if oldest < cutoff:
                lo, hi, oldest = _expire(work, lo, hi, cutoff)
            if t >= cutoff:
                _append(event, work, hi)
                hi += 1
                oldest = min(oldest, t)
                if hi - lo > MAX_ENTRIES:
                    lo += 1  # `oldest` may now be too small: one more pass in `_expire`, never a wrong result
        newest[user], start[user], stop[user] = latest, lo, hi
        free = hi


@_compiled
def _repeat(event, work, lo, hi):  # type: ignore[no-untyped-def]
    for j in range(lo, hi):
        if work[j]["txn"] == event["txn"]:
            known = work[j]["digest"] != 0 and event["digest"] != 0  # a backfilled row has no payload
            if known:
                same = work[j]["digest"] == event["digest"]
            else:
                same = (
                    work[j]["time"] == event["time"]
                    and work[j]["amount"] == event["amount"]
                    and work[j]["merchant"] == event["merchant"]
                )
            return 1 if same else 2
    return 0


@_compiled
def _append(event, work, at):  # type: ignore[no-untyped-def]
    work[at]["time"] = event["time"]
    work[at]["amount"] = event["amount"]
    work[at]["merchant"] = event["merchant"]
    work[at]["device"] = event["device"]
    work[at]["lat"] = event["lat"]
    work[at]["lon"] = event["lon"]
    work[at]["txn"] = event["txn"]
    work[at]["digest"] = event["digest"]
    work[at]["country"] = event["country"]


@_compiled
def _expire(work, lo, hi, cutoff):  # type: ignore[no-untyped-def]
    oldest = np.iinfo(np.int64).max
    kept = lo
    for j in range(lo, hi):
        if work[j]["time"] >= cutoff:
            if kept != j:
                work[kept] = work[j]
            kept += 1
            oldest = min(oldest, work[j]["time"])
    return lo, kept, oldest


@_compiled
def _read(event, work, lo, hi, row, seen, seen_at, countries_at, stamp):  # type: ignore[no-untyped-def]
    t, amount, merchant = event["time"], event["amount"], event["merchant"]
    n1 = n24 = n7 = n30 = countries = merchants = 0
    s1 = s24 = s7 = s30 = 0.0
    least, most = math.inf, -math.inf
    first_time = 1.0
    last = last_country = last_device = -1
    for j in range(lo, hi):
        entry = work[j]
        age = t - entry["time"]
        if age < 0 or age >= 30 * DAY_MS:
            continue
        a = entry["amount"]
        n30 += 1
        s30 += a
        least, most = min(least, a), max(most, a)
        if age < 7 * DAY_MS:
            n7 += 1
            s7 += a
        if age < DAY_MS:
            n24 += 1
            s24 += a
            code = entry["country"]
            if code != 0 and countries_at[code] != stamp:
                countries_at[code] = stamp
                countries += 1
            merchants += _first_seen(entry["merchant"], seen, seen_at, stamp)
        if age < HOUR_MS:
            n1 += 1
            s1 += a
        if entry["merchant"] == merchant:
            first_time = 0.0
        if last < 0 or entry["time"] >= work[last]["time"]:
            last = j
        if entry["country"] != 0 and (last_country < 0 or entry["time"] >= work[last_country]["time"]):
            last_country = j
        if entry["device"] != 0 and (last_device < 0 or entry["time"] >= work[last_device]["time"]):
            last_device = j
    row[0] = amount
    if n7 > 0:
        row[1] = s7 / n7
        row[3] = _cut(amount / row[1])
    if n30 > 0:
        row[2] = s30 / n30
    if n30 > 1 and least < most:
        squares = 0.0
        for j in range(lo, hi):
            age = t - work[j]["time"]
            if age >= 0 and age < 30 * DAY_MS:
                squares += (work[j]["amount"] - row[2]) ** 2
        row[4] = _cut((amount - row[2]) / math.sqrt(squares / n30))
    row[5], row[6], row[7], row[8] = n1, n24, n7, n30
    row[9], row[10], row[11], row[12] = s1, s24, countries, merchants
    if last_country >= 0 and event["country"] != 0:
        row[13] = 1.0 if work[last_country]["country"] != event["country"] else 0.0
    if last_device >= 0 and event["device"] != 0:
        row[14] = 1.0 if work[last_device]["device"] != event["device"] else 0.0
    row[15] = first_time
    if last >= 0:
        elapsed = t - work[last]["time"]
        row[16] = elapsed / 60_000.0
        km = _kilometres(work[last]["lat"], work[last]["lon"], event["lat"], event["lon"])
        row[17] = km
        if elapsed > 0:
            row[18] = _cut(km / (elapsed / HOUR_MS))
    hour = (t // HOUR_MS) % 24
    day = (t // DAY_MS + 3) % 7  # 1970-01-01 was a Thursday
    row[19], row[20] = hour, day
    row[21] = 1.0 if day >= 5 else 0.0
    row[22] = 1.0 if hour < 6 else 0.0
    if event["channel"] >= 0:
        row[23] = event["channel"]
    if event["mcc"] >= 0:
        row[24] = event["mcc"]


@_compiled
def _first_seen(key, seen, seen_at, stamp):  # type: ignore[no-untyped-def]
    slot = np.int64(key & np.uint64(2047))
    while seen_at[slot] == stamp:
        if seen[slot] == key:
            return 0
        slot = (slot + 1) & 2047
    seen_at[slot] = stamp
    seen[slot] = key
    return 1


@_compiled
def _cut(value):  # type: ignore[no-untyped-def]
    return min(max(value, -LIMIT), LIMIT) if value == value else value


@_compiled
def _kilometres(lat1, lon1, lat2, lon2):  # type: ignore[no-untyped-def]
    """Great-circle distance by the haversine formula; NaN where a coordinate is."""
    p1, p2 = math.radians(lat1), math.radians(lat2)
    a = (
        math.sin((p2 - p1) / 2) ** 2
        + math.cos(p1) * math.cos(p2) * math.sin(math.radians(lon2 - lon1) / 2) ** 2
    )
    return 2 * EARTH_KM * math.asin(math.sqrt(min(a, 1.0))) if a == a else math.nan


@_compiled
def _merchants(times, merchants, changes, bounds, out, column):  # type: ignore[no-untyped-def]
    for i in range(len(times)):
        quarter = times[i] // QUARTER_MS
        end = quarter - DELAY_QUARTERS
        lo, hi = bounds[merchants[i]], bounds[merchants[i] + 1]
        stop = hi
        while lo < hi:  # the first change of the longest window
            middle = (lo + hi) // 2
            if changes[middle]["quarter"] < end - 30 * 96:
                lo = middle + 1
            else:
                hi = middle
        n1 = n7 = n30 = f1 = f7 = f30 = 0
        for j in range(lo, stop):
            own = changes[j]["quarter"]
            if own >= end:
                break
            if changes[j]["effective"] > quarter:
                continue
            n30 += changes[j]["transactions"]
            f30 += changes[j]["frauds"]
            if own >= end - 7 * 96:
                n7 += changes[j]["transactions"]
                f7 += changes[j]["frauds"]
            if own >= end - 96:
                n1 += changes[j]["transactions"]
                f1 += changes[j]["frauds"]
        out[i, column], out[i, column + 1], out[i, column + 2] = n1, n7, n30
        out[i, column + 3] = f1 / n1 if n1 != 0 else math.nan
        out[i, column + 4] = f7 / n7 if n7 != 0 else math.nan
        out[i, column + 5] = f30 / n30 if n30 != 0 else math.nan
