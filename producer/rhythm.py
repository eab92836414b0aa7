"""When people buy: hours of the day by rhythm, days of the week, and trips abroad."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from producer.catalogue import COUNTRIES, shares

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
TRIPS = 3  # at most, per user
GAP_DAYS = 0.2  # nothing is bought in person while travelling

# One row per rhythm: (weight, local hour of the peak, spread in hours) of its bumps.
_BUMPS: tuple[tuple[tuple[float, float, float], ...], ...] = (
    ((0.3, 12.5, 1.5), (0.5, 18.0, 2.0), (0.2, 9.0, 1.5)),  # office
    ((0.6, 10.5, 2.0), (0.4, 16.0, 2.5)),  # morning
    ((0.4, 14.0, 2.5), (0.6, 20.5, 2.0)),  # evening
    ((0.3, 15.0, 3.0), (0.7, 23.5, 2.5)),  # night
)
_WEEK = (0.95, 0.9, 0.95, 1.0, 1.2, 1.2, 0.8)  # Monday first


def hours(rng: np.random.Generator, rhythm: Ints) -> Floats:
    """Draw local hours of the day in [0, 24), one per rhythm index."""
    kind = np.empty((len(_BUMPS), 3, 3))
    for i, bumps in enumerate(_BUMPS):
        padded = [*bumps, *([(0.0, 0.0, 1.0)] * (3 - len(bumps)))]
        kind[i] = padded
    cumulative = np.cumsum(kind[:, :, 0], axis=1)
    bump = np.minimum((rng.random(len(rhythm))[:, None] >= cumulative[rhythm]).sum(axis=1), 2)
    chosen = kind[rhythm, bump]
    return np.asarray((chosen[:, 1] + rng.normal(0, 1, len(rhythm)) * chosen[:, 2]) % 24.0)


def days(rng: np.random.Generator, count: int, total: int, weekday: int) -> Ints:
    """Draw day numbers in [0, total); `weekday` is the first day's, Monday 0."""
    weights = shares([_WEEK[(weekday + d) % 7] for d in range(total)])
    return np.asarray(np.minimum(np.searchsorted(np.cumsum(weights), rng.random(count)), total - 1))


@dataclass(frozen=True)
class Trips:
    """Up to TRIPS stays abroad per user, in days since the start; unused ones lie beyond the end."""

    begin: Floats  # (users, TRIPS)
    end: Floats
    country: Ints

    def at(self, user: Ints, day: Floats) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Return per event the trip's number (or -1), and whether the user is on the way."""
        number = np.full(len(user), -1, dtype=np.int64)
        moving = np.zeros(len(user), dtype=bool)
        for k in range(TRIPS):
            begin, end = self.begin[user, k], self.end[user, k]
            number[(day >= begin) & (day < end)] = k
            moving |= (day >= begin - GAP_DAYS) & (day < begin + GAP_DAYS)
            moving |= (day >= end - GAP_DAYS) & (day < end + GAP_DAYS)
        return number, moving


def make_trips(rng: np.random.Generator, home: Ints, total: int) -> Trips:
    """Draw honest trips: about one per user in ninety days, two to ten days long."""
    count = len(home)
    many = np.minimum(rng.poisson(total / 90, count), TRIPS)
    begin = rng.random((count, TRIPS)) * total
    begin[np.arange(TRIPS)[None, :] >= many[:, None]] = total + 1e6
    length = rng.uniform(2, 10, (count, TRIPS))
    weights = shares([c.visits for c in COUNTRIES])
    country = rng.choice(len(COUNTRIES), (count, TRIPS), p=weights)
    at_home = country == home[:, None]
    country[at_home] = (country[at_home] + rng.integers(1, len(COUNTRIES), int(at_home.sum()))) % len(COUNTRIES)
    return Trips(begin, begin + length, country)
