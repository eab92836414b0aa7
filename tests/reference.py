"""The features once more, as slowly and plainly as the contract's words; tests compare the kernel with it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

DAY = 86_400_000
HOUR = 3_600_000
QUARTER = 900_000


@dataclass(frozen=True)
class Event:
    time: int
    amount: float
    merchant: int
    txn: int
    digest: int = 1
    device: int = 0
    country: int = 0
    lat: float = math.nan
    lon: float = math.nan
    channel: int = -1
    mcc: int = -1


class User:
    """One user's history, straight from the contract: lists and comprehensions, nothing incremental."""

    def __init__(self) -> None:
        self.history: list[Event] = []
        self.newest: int | None = None

    def add(self, event: Event) -> tuple[int, dict[str, float]]:
        for old in self.history:
            if old.txn == event.txn:
                if old.digest and event.digest:
                    same = old.digest == event.digest
                else:
                    same = (old.time, old.amount, old.merchant) == (event.time, event.amount, event.merchant)
                return (1 if same else 2), {}
        row = features(event, self.history)
        self.newest = event.time if self.newest is None else max(self.newest, event.time)
        young = [e for e in [*self.history, event] if e.time >= self.newest - 37 * DAY]
        self.history = young[-512:]
        return 0, row


def features(event: Event, history: Sequence[Event]) -> dict[str, float]:
    t = event.time
    window = {w: [e for e in history if t - w < e.time <= t] for w in (HOUR, DAY, 7 * DAY, 30 * DAY)}
    month = window[30 * DAY]
    null = math.nan
    mean7 = mean([e.amount for e in window[7 * DAY]])
    mean30 = mean([e.amount for e in month])
    amounts = [e.amount for e in month]
    zscore = null
    if len(set(amounts)) > 1:
        zscore = (event.amount - mean30) / math.sqrt(sum((a - mean30) ** 2 for a in amounts) / len(amounts))
    last = latest(month)
    last_country = latest([e for e in month if e.country])
    last_device = latest([e for e in month if e.device])
    km = null if last is None else distance(last, event)
    hours = null if last is None else (t - last.time) / HOUR
    day = (t // DAY + 3) % 7
    return {
        "amount": event.amount,
        "rolling_avg_7d": mean7,
        "user_avg_amount_30d": mean30,
        "amount_to_avg_ratio": event.amount / mean7,
        "amount_zscore": zscore,
        "user_txn_count_1h": len(window[HOUR]),
        "user_txn_count_24h": len(window[DAY]),
        "user_txn_count_7d": len(window[7 * DAY]),
        "user_txn_count_30d": len(month),
        "user_amount_sum_1h": sum((e.amount for e in window[HOUR]), 0.0),
        "user_amount_sum_24h": sum((e.amount for e in window[DAY]), 0.0),
        "unique_countries_24h": len({e.country for e in window[DAY] if e.country}),
        "unique_merchants_24h": len({e.merchant for e in window[DAY]}),
        "country_change_flag": changed(event.country, None if last_country is None else last_country.country),
        "device_change_flag": changed(event.device, None if last_device is None else last_device.device),
        "user_merchant_first_time": float(event.merchant not in {e.merchant for e in month}),
        "minutes_since_last_txn": null if last is None else (t - last.time) / 60_000,
        "km_since_last_txn": km,
        "speed_kmh": km / hours if hours > 0 else null,
        "hour_of_day": t // HOUR % 24,
        "day_of_week": day,
        "is_weekend": float(day in (5, 6)),
        "is_night": float(t // HOUR % 24 < 6),
        "channel": event.channel if event.channel >= 0 else null,
        "merchant_category": event.mcc if event.mcc >= 0 else null,
    }


def merchant_features(time: int, changes: Sequence[tuple[int, int, int, int]]) -> dict[str, float]:
    """`changes`: (quarter, effective, transactions, frauds) of the merchant."""
    q = time // QUARTER
    row: dict[str, float] = {}
    for days in (1, 7, 30):
        counted = [
            (n, f) for own, effective, n, f in changes if q - 674 - days * 96 <= own < q - 674 and effective <= q
        ]
        count = sum(n for n, _ in counted)
        row[f"merchant_txn_count_{days}d"] = count
        row[f"merchant_fraud_rate_{days}d"] = sum(f for _, f in counted) / count if count else math.nan
    return row


def mean(values: Sequence[float]) -> float:
    return sum(values, 0.0) / len(values) if values else math.nan


def latest(events: Sequence[Event]) -> Event | None:
    best: Event | None = None
    for event in events:
        if best is None or event.time >= best.time:
            best = event
    return best


def changed(now: int, before: int | None) -> float:
    return math.nan if before is None or now == 0 else float(now != before)


def distance(a: Event, b: Event) -> float:
    """Spherical law by unit vectors: another formula than the kernel's, on purpose."""
    if math.isnan(a.lat) or math.isnan(b.lat):
        return math.nan
    p, q = (
        [
            math.cos(math.radians(e.lat)) * math.cos(math.radians(e.lon)),
            math.cos(math.radians(e.lat)) * math.sin(math.radians(e.lon)),
            math.sin(math.radians(e.lat)),
        ]
        for e in (a, b)
    )
    cross = math.hypot(p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0])
    return 6371.0088 * math.atan2(cross, sum(x * y for x, y in zip(p, q, strict=True)))
