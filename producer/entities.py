"""The simulated population: cities, merchants and users, as columns.

Ids and places come from Faker (seeded by instance); everything else from the generator that is passed in.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from faker import Faker

from producer.catalogue import CATEGORIES, CATEGORY_CHANNEL, COUNTRIES, ECOM, TRANSFER, shares

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FAVOURITES = 3
RHYTHMS = 4
MERCHANT_ID = "m%######"
HANDS_DAYS = 900.0  # how long a merchant keeps its id, on average: owners and acquirers change


@dataclass(frozen=True)
class Cities:
    """Places by country: the cities of country c are `first[c]` … `first[c] + count[c] - 1`."""

    lat: Floats
    lon: Floats
    utc_offset: Floats  # hours, on the simulation's first day
    first: Ints
    count: Ints

    def pick(self, rng: np.random.Generator, country: Ints) -> Ints:
        """Return one random city for each country index."""
        return np.asarray(self.first[country] + rng.integers(0, self.count[country]))


@dataclass(frozen=True)
class Merchants:
    """Merchants sorted by (category, country), so that a bucket of both is a slice.

    Shops change hands: from `replaced_day` on merchant i's customers find its heir in the same place, under the
    id `heirs[i]`, which nobody has seen before.
    """

    ids: npt.NDArray[np.object_]
    heirs: npt.NDArray[np.object_]
    replaced_day: Floats
    category: Ints
    country: Ints
    first: Ints  # (categories, countries + 1): start of the bucket; the last column is the whole category
    count: Ints

    def pick(self, rng: np.random.Generator, category: Ints, country: Ints) -> Ints:
        """Return one merchant each: of the country for physical categories, of any for the others.

        Popularity falls off within a bucket; where a country has none, the whole category serves.
        """
        channel = CATEGORY_CHANNEL[category]
        column = np.where((channel == ECOM) | (channel == TRANSFER), len(COUNTRIES), country)
        column = np.where(self.count[category, column] == 0, len(COUNTRIES), column)
        count = self.count[category, column]
        rank = np.minimum((rng.random(len(category)) ** 1.7 * count).astype(np.int64), count - 1)
        return np.asarray(self.first[category, column] + rank)


@dataclass(frozen=True)
class Users:
    """Users: where they live, what and when they buy, on which devices."""

    ids: npt.NDArray[np.object_]
    country: Ints
    city: Ints
    lat: Floats
    lon: Floats
    level: Floats  # how much they spend, around 1
    rate: Floats  # transactions a day
    rhythm: Ints  # which of the daily rhythms
    preference: npt.NDArray[np.float32]  # (users, categories): cumulative probabilities
    favourites: Ints  # (users, categories, FAVOURITES): merchants
    devices: Ints  # how many devices: 1 … 3
    replaced_day: Floats  # when the main device gives way to a new one

    def __len__(self) -> int:
        return len(self.ids)


def unique_ids(faker: Any, pattern: str, count: int, taken: Iterable[str] = ()) -> npt.NDArray[np.object_]:
    """Draw `count` ids of a pattern, each another one and none of those `taken`."""
    seen: dict[str, None] = dict.fromkeys(taken)
    before = len(seen)
    while len(seen) < before + count:
        seen[faker.numerify(pattern)] = None
    ids = np.empty(count, dtype=np.object_)
    ids[:] = list(seen)[before:]
    return ids


def make_cities(faker: Any, start: datetime) -> Cities:
    """Draw every country's cities from Faker's list of places."""
    lat: list[float] = []
    lon: list[float] = []
    offset: list[float] = []
    first: list[int] = []
    count: list[int] = []
    for country in COUNTRIES:
        places: dict[str, tuple[str, ...]] = {}
        for _ in range(60):
            place = faker.local_latlng(country.code)
            places[place[2]] = place
        first.append(len(lat))
        count.append(len(places))
        for place in places.values():
            lat.append(float(place[0]))
            lon.append(float(place[1]))
            there = start.astimezone(ZoneInfo(place[4])).utcoffset()
            offset.append(0.0 if there is None else there.total_seconds() / 3600)
    return Cities(np.array(lat), np.array(lon), np.array(offset), np.array(first), np.array(count))


def make_merchants(rng: np.random.Generator, faker: Any, count: int) -> Merchants:
    """Draw merchants: a category each (every category at least one) and a country."""
    category = rng.choice(len(CATEGORIES), count, p=shares([c.merchants for c in CATEGORIES]))
    category[: len(CATEGORIES)] = np.arange(len(CATEGORIES))
    country = rng.choice(len(COUNTRIES), count, p=shares([c.homes + c.visits for c in COUNTRIES]))
    order = np.lexsort((country, category))
    category, country = category[order], country[order]
    first = np.zeros((len(CATEGORIES), len(COUNTRIES) + 1), dtype=np.int64)
    size = np.zeros_like(first)
    for c in range(len(CATEGORIES)):
        start, stop = np.searchsorted(category, [c, c + 1])
        first[c, -1], size[c, -1] = start, stop - start
        edges = start + np.searchsorted(country[start:stop], np.arange(len(COUNTRIES) + 1))
        first[c, :-1], size[c, :-1] = edges[:-1], np.diff(edges)
    ids = unique_ids(faker, MERCHANT_ID, count)
    # A generator and a Faker of their own: heirs came later than everybody else, whose draws must not move.
    own = np.random.default_rng([int(ids[0][1:]), *b"heirs"])
    heirs = unique_ids(make_faker(own), MERCHANT_ID, count, ids)
    return Merchants(ids, heirs, own.exponential(HANDS_DAYS, count), category, country, first, size)


def make_users(
    rng: np.random.Generator, faker: Any, cities: Cities, merchants: Merchants, count: int, per_day: float
) -> Users:
    """Draw users with their homes, spending profiles, rhythms, favourite merchants and devices."""
    country = rng.choice(len(COUNTRIES), count, p=shares([c.homes for c in COUNTRIES]))
    city = cities.pick(rng, country)
    base = shares([c.share for c in CATEGORIES])
    taste = rng.gamma(base * 40, 1.0, (count, len(CATEGORIES)))
    favourites = np.empty((count, len(CATEGORIES), FAVOURITES), dtype=np.int64)
    for c in range(len(CATEGORIES)):
        for k in range(FAVOURITES):
            favourites[:, c, k] = merchants.pick(rng, np.full(count, c), country)
    return Users(
        ids=unique_ids(faker, "u%#######", count),
        country=country,
        city=city,
        lat=cities.lat[city] + rng.normal(0, 0.05, count),
        lon=cities.lon[city] + rng.normal(0, 0.05, count),
        level=rng.lognormal(0, 0.45, count),
        rate=rng.gamma(2.5, per_day / 2.5, count),
        rhythm=rng.choice(RHYTHMS, count, p=[0.4, 0.3, 0.2, 0.1]),
        preference=(np.cumsum(taste, axis=1) / taste.sum(axis=1, keepdims=True)).astype(np.float32),
        favourites=favourites,
        devices=rng.integers(1, 4, count),
        replaced_day=rng.exponential(240.0, count),
    )


def make_faker(rng: np.random.Generator) -> Any:
    """Return a Faker of its own, seeded from the generator."""
    faker = Faker()
    faker.seed_instance(int(rng.integers(0, 2**62)))
    return faker
