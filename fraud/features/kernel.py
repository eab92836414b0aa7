"""The arithmetic of every feature, compiled: pure functions over arrays.

Sums and means are taken over the window in arrival order, deviations in a second pass, so every caller does
the same arithmetic (running sums lose 4e-9 and go negative after large amounts). Nothing here is infinite.
"""

import math

import numpy as np

from fraud.compiled import compiled
from fraud.history import MAX_AGE_MS, MAX_ENTRIES
from fraud.profiles import QUARTER_MS

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
DELAY_QUARTERS = 7 * 96 + 2  # labels take seven days; two quarters of grace for the archive
EARTH_KM = 6371.0088  # mean radius (IUGG)
LIMIT = 1e30  # results are cut here, so that the model's float32 never sees infinity


@compiled
def fold(events, bounds, entries, entry_bounds, out, status, work, start, stop, newest):  # type: ignore[no-untyped-def]
    seen = np.zeros(2048, np.uint64)  # distinct merchants: open addressing, valid where the stamp is this row's
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


@compiled
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


@compiled
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


@compiled
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


@compiled
def _read(event, work, lo, hi, row, seen, seen_at, countries_at, stamp):  # type: ignore[no-untyped-def]  # noqa: C901 - one pass over the window
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


@compiled
def _first_seen(key, seen, seen_at, stamp):  # type: ignore[no-untyped-def]
    slot = np.int64(key & np.uint64(2047))
    while seen_at[slot] == stamp:
        if seen[slot] == key:
            return 0
        slot = (slot + 1) & 2047
    seen_at[slot] = stamp
    seen[slot] = key
    return 1


@compiled
def _cut(value):  # type: ignore[no-untyped-def]
    return min(max(value, -LIMIT), LIMIT) if value == value else value


@compiled
def _kilometres(lat1, lon1, lat2, lon2):  # type: ignore[no-untyped-def]
    """Great-circle distance by the haversine formula; NaN where a coordinate is."""
    p1, p2 = math.radians(lat1), math.radians(lat2)
    a = math.sin((p2 - p1) / 2) ** 2 + math.cos(p1) * math.cos(p2) * math.sin(math.radians(lon2 - lon1) / 2) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(min(a, 1.0))) if a == a else math.nan


@compiled
def merchants(times, owners, changes, bounds, out, column):  # type: ignore[no-untyped-def]
    # A read at quarter q counts changes of quarters before q - DELAY_QUARTERS. One that is effective within the delay
    # is so at every read that counts it, and adds to running sums (of integers, so exact); the late ones are asked.
    counted, frauds = np.zeros(len(changes) + 1, np.int64), np.zeros(len(changes) + 1, np.int64)
    late, late_bounds = np.empty(len(changes), np.int64), np.zeros(len(bounds), np.int64)
    lates = 0
    for owner in range(len(bounds) - 1):
        for j in range(bounds[owner], bounds[owner + 1]):
            counted[j + 1], frauds[j + 1] = counted[j], frauds[j]
            if changes[j]["effective"] <= changes[j]["quarter"] + DELAY_QUARTERS + 1:
                counted[j + 1] += changes[j]["transactions"]
                frauds[j + 1] += changes[j]["frauds"]
            else:
                late[lates] = j
                lates += 1
        late_bounds[owner + 1] = lates
    for i in range(len(times)):
        owner, quarter = owners[i], times[i] // QUARTER_MS
        end = quarter - DELAY_QUARTERS
        lo, hi = bounds[owner], bounds[owner + 1]
        from_30 = _first_from(changes, lo, hi, end - 30 * 96)
        from_7 = _first_from(changes, from_30, hi, end - 7 * 96)
        from_1 = _first_from(changes, from_7, hi, end - 96)
        to = _first_from(changes, from_1, hi, end)
        n1, n7, n30 = counted[to] - counted[from_1], counted[to] - counted[from_7], counted[to] - counted[from_30]
        f1, f7, f30 = frauds[to] - frauds[from_1], frauds[to] - frauds[from_7], frauds[to] - frauds[from_30]
        for k in range(late_bounds[owner], late_bounds[owner + 1]):
            j = late[k]
            if j < from_30 or j >= to or changes[j]["effective"] > quarter:
                continue
            n30 += changes[j]["transactions"]
            f30 += changes[j]["frauds"]
            if j >= from_7:
                n7 += changes[j]["transactions"]
                f7 += changes[j]["frauds"]
            if j >= from_1:
                n1 += changes[j]["transactions"]
                f1 += changes[j]["frauds"]
        out[i, column], out[i, column + 1], out[i, column + 2] = n1, n7, n30
        out[i, column + 3] = f1 / n1 if n1 != 0 else math.nan
        out[i, column + 4] = f7 / n7 if n7 != 0 else math.nan
        out[i, column + 5] = f30 / n30 if n30 != 0 else math.nan


@compiled
def _first_from(changes, lo, hi, quarter):  # type: ignore[no-untyped-def]
    """Return the first of changes lo..hi, sorted by quarter, that isn't before `quarter`; hi if all are."""
    while lo < hi:
        middle = (lo + hi) // 2
        if changes[middle]["quarter"] < quarter:
            lo = middle + 1
        else:
            hi = middle
    return lo
