"""What honest users do: home, work, favourite shops, trips, new devices, purchases online."""

import numpy as np
import numpy.typing as npt

from producer.catalogue import CATEGORIES, CATEGORY_CHANNEL, shares
from producer.entities import FAVOURITES
from producer.events import Events, World, amounts, card_present, own_device
from producer.rhythm import DAY_MS, HOUR_MS, days, hours

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DAY_OUT = 0.05  # share of a user's days spent in another city of the home country
FAVOURITE = 0.75  # share of purchases at home that go to favourites
BIG_TICKET = 0.012  # share of purchases that are unusually large


def make_honest(rng: np.random.Generator, world: World) -> Events:
    """Draw every honest event of the simulation, unordered."""
    users = world.users
    user = np.repeat(np.arange(len(users)), rng.poisson(users.rate * world.days))
    count = len(user)
    weekday = (world.start // DAY_MS + 3) % 7
    day = days(rng, count, world.days, int(weekday))
    local = hours(rng, users.rhythm[user]) - world.cities.utc_offset[users.city[user]]
    since = (day * DAY_MS + local * HOUR_MS).astype(np.int64) % (world.days * DAY_MS)
    trip, moving = world.trips.at(user, since / DAY_MS)
    abroad = trip >= 0

    category = (rng.random(count, dtype=np.float32)[:, None] >= users.preference[user]).sum(axis=1)
    category = np.minimum(category, len(CATEGORIES) - 1)
    travel = rng.choice(len(CATEGORIES), int(abroad.sum()), p=shares([c.travel for c in CATEGORIES]))
    category[abroad] = travel
    channel = CATEGORY_CHANNEL[category].astype(np.int64)

    country, lat, lon = _whereabouts(rng, world, user, since, trip)
    merchant = world.merchants.pick(rng, category, country)
    usual = ~abroad & (rng.random(count) < FAVOURITE)
    merchant[usual] = users.favourites[user[usual], category[usual], rng.integers(0, FAVOURITES, int(usual.sum()))]

    amount = amounts(rng, users, user, category)
    big = rng.random(count) < BIG_TICKET
    amount[big] *= rng.uniform(2, 8, int(big.sum()))
    amount[abroad] *= 1.15

    present = card_present(channel)
    device = own_device(rng, users, user, since / DAY_MS)
    device[present & (rng.random(count) < 0.7)] = 0
    hidden = ~present & (rng.random(count) < 0.4)
    lat[hidden] = np.nan
    lon[hidden] = np.nan
    events = Events(
        user=user,
        merchant=merchant,
        time=world.start + since,
        amount=amount,
        channel=channel,
        country=country,
        device=device,
        lat=lat,
        lon=lon,
        scenario=np.zeros(count, dtype=np.int64),
    )
    return events.take(~(moving & present))


def _whereabouts(
    rng: np.random.Generator, world: World, user: Ints, since: Ints, trip: Ints
) -> tuple[Ints, Floats, Floats]:
    """Return country and position per event: about home, a day out, or the trip's city."""
    users, cities = world.users, world.cities
    country = users.country[user].copy()
    lat, lon = users.lat[user].copy(), users.lon[user].copy()

    out = rng.random((len(users), world.days)) < DAY_OUT
    elsewhere = out[user, since // DAY_MS]
    there = cities.pick(rng, users.country)[user]
    lat[elsewhere], lon[elsewhere] = cities.lat[there[elsewhere]], cities.lon[there[elsewhere]]

    abroad = trip >= 0
    stays = np.column_stack([cities.pick(rng, world.trips.country[:, k]) for k in range(trip.max(initial=0) + 1)])
    number = np.maximum(trip, 0)
    place = stays[user, number][abroad]
    country[abroad] = world.trips.country[user, number][abroad]
    lat[abroad], lon[abroad] = cities.lat[place], cities.lon[place]
    return country, lat + rng.normal(0, 0.03, len(user)), lon + rng.normal(0, 0.03, len(user))
