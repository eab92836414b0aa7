"""Simulated events as columns, before they become messages."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from producer.catalogue import CATEGORY_MEDIAN, CATEGORY_SIGMA, ECOM, PER_EURO, TRANSFER
from producer.entities import Cities, Merchants, Users
from producer.rhythm import Trips

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Events:
    """Columns of equal length; `scenario` is 0 for honest events, else the scenario's number."""

    user: Ints
    merchant: Ints
    time: Ints  # ms since the epoch
    amount: Floats  # in the account's currency
    channel: Ints
    country: Ints  # -1: unknown
    device: Ints  # 0: none
    lat: Floats  # NaN: unknown
    lon: Floats
    scenario: Ints

    def __len__(self) -> int:
        return len(self.user)

    def take(self, index: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> "Events":
        """Return the rows at `index`, or where it is true."""
        return Events(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def labelled(self, scenario: int) -> "Events":
        """Return the same rows under a scenario's number."""
        return replace(self, scenario=np.full(len(self), scenario, dtype=np.int64))


def concat(parts: Sequence[Events]) -> Events:
    """Join columns end to end."""
    return Events(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Events)})


@dataclass(frozen=True)
class World:
    """The population and the calendar that events are drawn from."""

    users: Users
    merchants: Merchants
    cities: Cities
    trips: Trips
    start: int  # ms since the epoch
    days: int


@dataclass(frozen=True)
class Call:
    """What a scenario draws from: the world, the honest events, its first day, how many frauds to make."""

    rng: np.random.Generator
    world: World
    honest: Events
    start_day: float
    wanted: int


def amounts(rng: np.random.Generator, users: Users, user: Ints, category: Ints) -> Floats:
    """Draw what the user would usually pay in a category, in the account's currency."""
    euros = CATEGORY_MEDIAN[category] * users.level[user] * rng.lognormal(0, CATEGORY_SIGMA[category])
    return np.asarray(euros * PER_EURO[users.country[user]])


def own_device(rng: np.random.Generator, users: Users, user: Ints, day: Floats) -> Ints:
    """Return the device that the user would take: mostly the main one, which is replaced one day."""
    slot = np.where(rng.random(len(user)) < 0.85, 0, rng.integers(0, users.devices[user]))
    slot = np.where((slot == 0) & (day >= users.replaced_day[user]), 9, slot)
    return np.asarray(user * 16 + slot + 1)


def card_present(channel: Ints) -> npt.NDArray[np.bool_]:
    """Return where the card was there: at a till or a cash machine."""
    return np.asarray((channel != ECOM) & (channel != TRANSFER))
