"""A stream made to be hard: simulated customers, and among them whatever could tell batch, stream and one row apart.

* repeats, the same and conflicting, at once and hours later, of the stream and of what was backfilled
* events hours to weeks late, and later than the 37 days that a history remembers
* customers so busy that events leave the 512 arrivals that count, repeated and late ones among them
* customers who pause for longer than 37 days: what they did before leaves at once
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache

import msgspec
import numpy as np
import polars as pl

from fraud.backfill import Past
from fraud.codec import encode, format_time, parse_time
from fraud.history import MAX_AGE_MS, MAX_ENTRIES
from fraud.schema import Transaction
from producer.simulate import Config, Simulation, generate
from tests.streaming import transactions

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
BEGIN = parse_time("2024-01-01T00:00:00Z")
STREAM = (BEGIN + 43 * DAY_MS, BEGIN + 47 * DAY_MS)  # the profiles know three days more
LATE_VERDICTS = 400
BUSY = 3
BUSY_ROWS = MAX_ENTRIES + 150


@dataclass(frozen=True)
class Hostile:
    """Messages in the order in which they are sent, with what they were made for."""

    rows: list[Transaction]
    kinds: list[str]

    def count(self, kind: str) -> int:
        return self.kinds.count(kind)


@lru_cache(maxsize=1)
def simulation() -> Simulation:
    """Return 50 days of 350 customers at 60 merchants, who are busy enough to have a fraud rate at any time.

    Late verdicts, known only after the stream, turn over those about transactions that the stream's windows hold.
    """
    start = datetime.fromtimestamp(BEGIN / 1000, UTC)
    made = generate(Config(start, days=50, seed=11, users=350, merchants=60, per_day=3.0))
    return replace(made, labels=pl.concat([made.labels, _late_verdicts(made)]))


def _late_verdicts(made: Simulation) -> pl.DataFrame:
    time = pl.col("timestamp").dt.epoch("ms")
    windows = (time >= STREAM[1] - 30 * DAY_MS) & (time < STREAM[0] - 8 * DAY_MS)
    about = made.transactions.filter(windows).sample(LATE_VERDICTS, seed=1)
    frauds = made.labels.filter(pl.col("is_fraud"))["transaction_id"].implode()
    hours = pl.int_range(pl.len()) % 72
    return about.with_columns(
        (~pl.col("transaction_id").is_in(frauds)).alias("is_fraud"),
        (STREAM[1] + hours * HOUR_MS).cast(pl.Datetime("ms", "UTC")).alias("labelled_at"),
        pl.lit("analyst").alias("source"),
    ).select(made.labels.columns)


def past() -> Past:
    """Return what is loaded: histories up to the stream, profiles beyond its end."""
    return Past(simulation().transactions, simulation().labels, STREAM[0])


@lru_cache(maxsize=1)
def hostile() -> Hostile:
    """Return the stream; the same on every call."""
    rng = np.random.default_rng(3)
    time = pl.col("timestamp").dt.epoch("ms")
    honest = transactions(simulation().transactions.filter((time >= STREAM[0]) & (time < STREAM[1])))
    loaded = transactions(simulation().transactions.filter((time >= STREAM[0] - 2 * DAY_MS) & (time < STREAM[0])))
    # Each piece: where in the stream it goes (a place may be taken twice), what for, and the row.
    pieces = [(float(at), "honest", row) for at, row in enumerate(honest)]
    pieces += _repeats(rng, honest) + _loaded_again(rng, loaded, len(honest))
    pieces += _late(rng, honest) + _busy(rng, honest) + _pauses(honest)
    pieces.sort(key=lambda piece: piece[0])
    return Hostile([row for _, _, row in pieces], [kind for _, kind, _ in pieces])


_Pieces = list[tuple[float, str, Transaction]]


def _repeats(rng: np.random.Generator, honest: list[Transaction]) -> _Pieces:
    """Repeat rows, half of them with another amount; right behind the first, or up to a sixth of the stream later."""
    pieces: _Pieces = []
    for n, at in enumerate(rng.choice(len(honest), 300, replace=False)):
        row = honest[at]
        later = float(at) + 0.5 + (0 if n % 4 < 2 else int(rng.integers(1, len(honest) // 6)))
        other = msgspec.structs.replace(row, amount=round(row.amount + 1, 2))
        pieces.append((later, "conflict", other) if n % 2 else (later, "repeat", row))
    return pieces


def _loaded_again(rng: np.random.Generator, loaded: list[Transaction], length: int) -> _Pieces:
    """Repeat rows that were backfilled: nobody knows their payload, so what they say is compared."""
    chosen = rng.choice(len(loaded), 40, replace=False)
    return [
        (float(rng.integers(length)), "conflict", msgspec.structs.replace(loaded[at], amount=loaded[at].amount + 5))
        if n % 2
        else (float(rng.integers(length)), "repeat", loaded[at])
        for n, at in enumerate(chosen)
    ]


def _late(rng: np.random.Generator, honest: list[Transaction]) -> _Pieces:
    """Send new rows of the same customers with times long past: hours, days, and beyond what is remembered."""
    spans = {
        "hours late": (1, 24),
        "days late": (24, 30 * 24),
        "weeks late": (30 * 24, 37 * 24),
        "too late": (888, 960),
    }
    pieces: _Pieces = []
    for kind, (least, most) in spans.items():
        for n, at in enumerate(rng.choice(len(honest), 80, replace=False)):
            row = honest[at]
            when = parse_time(row.timestamp) - round(float(rng.uniform(least, most)) * HOUR_MS)
            changes = {"transaction_id": f"{kind[:3]}{n}", "timestamp": format_time(when)}
            pieces.append((float(at) + 0.25, kind, msgspec.structs.replace(row, **changes)))
    return pieces


def _busy(rng: np.random.Generator, honest: list[Transaction]) -> _Pieces:
    """Let customers buy so often that arrivals leave the history; then repeat first ones and come late."""
    pieces: _Pieces = []
    for number in range(BUSY):
        place = np.sort(rng.uniform(0, len(honest), BUSY_ROWS))
        for n, at in enumerate(place):
            like = honest[int(at)]
            busy = {"transaction_id": f"busy{number}-{n}", "user_id": f"busy{number}"}
            row = msgspec.structs.replace(like, **busy)
            pieces.append((float(at), "busy", row))
            if n >= MAX_ENTRIES + 50:  # its first ones are out of the history: no repeat is known any more
                first = next(one for _, _, one in pieces if one.transaction_id == f"busy{number}-{n % 40}")
                pieces.append((float(at) + 1e-6, "forgotten repeat", first))
    return pieces


def _pauses(honest: list[Transaction]) -> _Pieces:
    """Let a hundred customers be away for longer than a history reaches, and repeat what they did before."""
    pieces: _Pieces = []
    for n in range(100):
        at = 20 * n
        row = msgspec.structs.replace(honest[at], user_id=f"away{n}", transaction_id=f"away{n}-now")
        away = parse_time(row.timestamp) - MAX_AGE_MS - (n - 50) * HOUR_MS  # on both sides of the limit
        before = msgspec.structs.replace(row, transaction_id=f"away{n}-before", timestamp=format_time(away))
        again = msgspec.structs.replace(row, transaction_id=f"away{n}-again")
        pieces += [(at + 0.1, "away", before), (at + 0.2, "away", row), (at + 0.3, "away", before)]
        pieces.append((at + 0.4, "away", again))
    return pieces


def messages(rows: list[Transaction]) -> list[tuple[bytes, bytes]]:
    """Return keys and values; equal rows are equal bytes."""
    return [(row.user_id.encode(), encode(row)) for row in rows]
