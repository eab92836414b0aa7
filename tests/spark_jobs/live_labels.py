"""A few hours of a stream in which verdicts come back: quarter-hour by quarter-hour, what is sent in each.

Verdicts are about payments that the merchants' windows hold, seven days old and more, so they move the rates that
the stream reads: new ones, ones that take back an earlier one, the same twice, ones that arrive hours after they
were given, and ones that arrive before their payment does.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache

import msgspec
import numpy as np
import polars as pl

from fraud.codec import format_time, parse_time
from fraud.profiles import QUARTER_MS, quarter_of
from fraud.schema import Label, Transaction
from producer.simulate import Config, Simulation, generate
from tests.streaming import transactions

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
BEGIN = parse_time("2024-04-01T00:00:00Z")
QUARTERS = 26
STREAM = BEGIN + 19 * DAY_MS + 9 * HOUR_MS  # in the morning: no quarter is empty
END = STREAM + QUARTERS * QUARTER_MS
PER_QUARTER = 6  # verdicts


@dataclass(frozen=True)
class Step:
    """What is sent once the profiles know the quarter-hours before `quarter`."""

    quarter: int
    labels: list[Label]
    transactions: list[Transaction]


@lru_cache(maxsize=1)
def simulation() -> Simulation:
    """Return 20 days of 260 customers at 25 merchants, each of which has trade in most windows."""
    start = datetime.fromtimestamp(BEGIN / 1000, UTC)
    made = generate(Config(start, days=20, seed=23, users=260, merchants=25, per_day=4.0))
    known = made.labels.filter(pl.col("labelled_at").dt.epoch("ms") <= STREAM)
    return replace(made, labels=known)


@lru_cache(maxsize=1)
def steps() -> tuple[Step, ...]:
    """Return the stream; the same on every call."""
    rng = np.random.default_rng(7)
    time = pl.col("timestamp").dt.epoch("ms")
    rows = transactions(simulation().transactions.filter((time >= STREAM) & (time < END)))
    windows = simulation().transactions.filter((time >= STREAM - 14 * DAY_MS) & (time < STREAM - 7.1 * DAY_MS))
    old = transactions(windows.sample(QUARTERS * PER_QUARTER, seed=1, shuffle=True))
    made = []
    for number in range(QUARTERS):
        quarter = quarter_of(STREAM) + number
        now = quarter * QUARTER_MS
        about = old[number * PER_QUARTER : (number + 1) * PER_QUARTER]
        labels = _labels(about, now)
        mine = [row for row in rows if quarter_of(parse_time(row.timestamp)) == quarter]
        labels.append(_label(_ancient(old, number), now, is_fraud=True))
        if number >= 2:  # it arrives two quarters after its verdict
            mine.append(_ancient(old, number - 2))
        mine += [mine[int(rng.integers(len(mine)))]]  # a repeat: it counts once
        made.append(Step(quarter, labels, mine))
    return tuple(made)


def _ancient(old: list[Transaction], number: int) -> Transaction:
    """Return a payment of more than a week ago that nobody knew: a terminal that was offline."""
    like = old[number * PER_QUARTER + 4]
    return msgspec.structs.replace(
        like, transaction_id=f"ancient{number}", timestamp=format_time(parse_time(like.timestamp) + 1_000)
    )


def _labels(about: list[Transaction], now: int) -> list[Label]:
    """Return a quarter's verdicts: two that stay, one that is taken back at once, one twice, one hours late."""
    first, second, third, fourth, _, sixth = about
    twice = _label(fourth, now, is_fraud=True)
    return [
        _label(first, now, is_fraud=True),
        _label(second, now + 60_000, is_fraud=True),
        _label(third, now, is_fraud=True),
        _label(third, now + 120_000, is_fraud=False),
        twice,
        twice,
        _label(sixth, now - 5 * HOUR_MS, is_fraud=True),
    ]


def _label(about: Transaction, at: int, *, is_fraud: bool) -> Label:
    return Label(
        about.transaction_id, about.user_id, about.merchant_id, about.timestamp, is_fraud, format_time(at), "analyst"
    )
