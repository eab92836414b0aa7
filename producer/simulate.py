"""The simulator: from a configuration to transactions, labels and the truth, always the same for a seed.

Nothing here reads the clock: a simulation starts when it is told to.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from fraud.errors import ConfigError
from producer.catalogue import CATEGORIES, CHANNELS, COUNTRIES
from producer.entities import MERCHANT_ID, make_cities, make_faker, make_merchants, make_users, unique_ids
from producer.events import Call, Events, World, concat
from producer.honest import make_honest
from producer.labels import make_labels
from producer.rhythm import DAY_MS, HOUR_MS, make_trips
from producer.scenarios import SCENARIOS, Scenario
from producer.shops import trade

LATE = 0.012  # share of events that reach us seconds to hours after they happened
UNKNOWN_CATEGORY = 0.02
UNKNOWN_COUNTRY = 0.01
_MASK = (1 << 48) - 1

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Config:
    """What to simulate; `start` needs a zone. Volume is about users by days by per_day."""

    start: datetime
    days: int = 30
    seed: int = 1
    users: int = 5_000
    merchants: int = 1_000
    per_day: float = 2.0
    scenarios: tuple[Scenario, ...] = SCENARIOS
    labels_after: timedelta | None = None  # None: real delays and errors
    prefix: str = "t"  # of transaction ids; another one for another stream of the same users

    def __post_init__(self) -> None:
        if self.start.tzinfo is None:
            raise ConfigError(f"the start {self.start} has no zone; give UTC")
        if self.start.year < 2000 or self.start.year + self.days / 365 >= 2100:
            raise ConfigError(f"{self.days} days from {self.start:%Y-%m-%d} on leave the years 2000 to 2099")
        for name, least in (("days", 1), ("users", 1), ("merchants", len(CATEGORIES))):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}; the simulator needs at least {least}")
        if not 0 < self.per_day <= 100:
            raise ConfigError(f"{self.per_day} transactions a day and user; give more than 0, at most 100")


@dataclass(frozen=True)
class Simulation:
    """Three tables: what happened in arrival order, what became known of it, and the truth."""

    transactions: pl.DataFrame
    labels: pl.DataFrame
    truth: pl.DataFrame


def generate(config: Config) -> Simulation:
    """Simulate; the same configuration gives the same tables, byte for byte."""
    world = make_world(config)
    honest = make_honest(_rng(config, "honest"), world)
    parts = [honest]
    for scenario in config.scenarios:
        active = max(0.0, config.days - scenario.start_day) / config.days
        wanted = round(len(honest) * scenario.share * active)
        if wanted > 0:
            call = Call(_rng(config, scenario.name), world, honest, scenario.start_day, wanted)
            number = 1 + [s.name for s in SCENARIOS].index(scenario.name)
            parts.append(scenario.draw(call).labelled(number))
    events = concat(parts)
    events = events.take((events.time >= world.start) & (events.time < world.start + world.days * DAY_MS))
    events = events.take(_arrival_order(_rng(config, "arrival"), events))
    transactions = _table(_rng(config, "gaps"), config, world, events)
    after = None if config.labels_after is None else round(config.labels_after.total_seconds() * 1000)
    labels = make_labels(_rng(config, "labels"), transactions, events.scenario > 0, after)
    names = pl.Series("scenario", [None, *(s.name for s in SCENARIOS)], dtype=pl.String)
    truth = transactions.select("transaction_id").with_columns(
        pl.Series("is_fraud", events.scenario > 0), names.gather(pl.Series(events.scenario))
    )
    return Simulation(transactions, labels, truth)


def make_world(config: Config) -> World:
    """Draw the population; the same seed gives the same users whatever the number of days."""
    rng = _rng(config, "entities")
    faker = make_faker(rng)
    cities = make_cities(faker, config.start)
    merchants = make_merchants(rng, faker, config.merchants)
    users = make_users(rng, faker, cities, merchants, config.users, config.per_day)
    trips = make_trips(_rng(config, "trips"), users.country, config.days)
    return World(users, merchants, cities, trips, round(config.start.timestamp() * 1000), config.days)


def _rng(config: Config, purpose: str) -> np.random.Generator:
    """Return a generator of its own for each purpose, so that one's draws don't move another's."""
    return np.random.default_rng([config.seed, *purpose.encode()])


def _arrival_order(rng: np.random.Generator, events: Events) -> np.ndarray:
    """Return the order in which events reach us: mostly at once, a few seconds to hours late."""
    delay = rng.exponential(400.0, len(events))
    late = rng.random(len(events)) < LATE
    delay[late] = np.minimum(rng.lognormal(np.log(120_000), 1.8, int(late.sum())), 6 * HOUR_MS)
    return np.lexsort((events.time, events.time + delay.astype(np.int64)))


def _merchants(config: Config, world: World, events: Events) -> tuple[npt.NDArray[np.object_], Ints, Ints]:
    """Return every id that a merchant can have, and per event the id's index and the category.

    A merchant that has changed hands goes by its heir's id; after the merchants come the fake shops.
    """
    known = world.merchants
    count = len(known.ids)
    shop = np.maximum(events.merchant - count, -1)
    real = np.where(shop < 0, events.merchant, 0)
    inherited = (events.time - world.start) / DAY_MS >= known.replaced_day[real]
    index = np.where(shop < 0, real + count * inherited, events.merchant + count)
    ids = [known.ids, known.heirs]
    shops = int(shop.max(initial=-1)) + 1
    ids.append(unique_ids(make_faker(_rng(config, "shops")), MERCHANT_ID, shops, np.concatenate(ids)))
    return np.concatenate(ids), index, np.where(shop < 0, known.category[real], trade(np.maximum(shop, 0)))


def _table(rng: np.random.Generator, config: Config, world: World, events: Events) -> pl.DataFrame:
    """Turn columns of numbers into the message's fields."""
    count = len(events)
    merchants, merchant, category = _merchants(config, world, events)
    category = np.where(rng.random(count) < UNKNOWN_CATEGORY, -1, category)
    country = np.where(rng.random(count) < UNKNOWN_COUNTRY, -1, events.country)
    # An odd factor permutes 48-bit numbers: devices look opaque and never collide.
    device = (events.device.astype(np.uint64) * np.uint64(0x9E3779B97F4B) + np.uint64(config.seed)) & np.uint64(_MASK)
    amount = np.maximum(np.round(events.amount, 2), 0.01)
    digits = max(9, len(str(count)))
    lookup: dict[str, tuple[Iterable[str], np.ndarray]] = {
        "user_id": (world.users.ids, events.user),
        "merchant_id": (merchants, merchant),
        "currency": ([c.currency for c in COUNTRIES], world.users.country[events.user]),
        "merchant_category": ([c.mcc for c in CATEGORIES], category),
        "channel": (CHANNELS, events.channel),
        "country": ([c.code for c in COUNTRIES], country),
    }
    text = {
        name: pl.Series(list(values), dtype=pl.String).gather(
            pl.Series(index).cast(pl.Int64).set(pl.Series(index) < 0, None)
        )
        for name, (values, index) in lookup.items()
    }
    return pl.DataFrame(
        {
            "transaction_id": pl.Series(np.arange(count)).cast(pl.String).str.zfill(digits),
            "user_id": text["user_id"],
            "merchant_id": text["merchant_id"],
            "timestamp": pl.Series(events.time).cast(pl.Datetime("ms", "UTC")),
            "amount": amount,
            "currency": text["currency"],
            "merchant_category": text["merchant_category"],
            "channel": text["channel"],
            "country": text["country"],
            "device_id": pl.Series(device).cast(pl.String),
            "latitude": pl.Series(events.lat.round(5)).fill_nan(None),
            "longitude": pl.Series(events.lon.round(5)).fill_nan(None),
        }
    ).with_columns(
        (pl.lit(config.prefix) + pl.col("transaction_id")).alias("transaction_id"),
        pl.when(pl.Series(events.device != 0)).then(pl.lit("d") + pl.col("device_id")).alias("device_id"),
    )
