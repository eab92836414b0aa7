"""Web shops that sell nothing: they are new, take payments for some days, and are gone before the first chargeback."""

import numpy as np
import numpy.typing as npt

from producer.catalogue import CATEGORIES, ECOM
from producer.events import Call, Events, amounts, own_device
from producer.rhythm import DAY_MS, HOUR_MS, hours

Ints = npt.NDArray[np.int64]

# What they pretend to sell, by category code: anything, electronics, journeys.
TRADES = np.array([[c.mcc for c in CATEGORIES].index(mcc) for mcc in ("5999", "5734", "5999", "4722")])
VICTIMS = (4, 40)  # of a shop, least and most
OPEN_DAYS = (2.0, 6.5)  # shorter than the seven days after which a merchant's windows begin
CHEAP = 0.7  # the price that lures, against what the customer usually pays


def fake_shops(call: Call) -> Events:
    """Sell what never arrives, in new web shops: the customers pay themselves, as they always do.

    Device, country, place, hour and amount are the victim's own. What gives such a shop away is that nobody has
    bought there before, and that alone isn't enough: honest merchants begin like that too.
    Shop k has the number `len(world.merchants.ids) + k`.
    """
    rng, world = call.rng, call.world
    size = rng.integers(VICTIMS[0], VICTIMS[1] + 1, call.wanted // VICTIMS[0] + 1)
    many = int(np.searchsorted(np.cumsum(size), call.wanted)) + 1
    shop = np.repeat(np.arange(many), size[:many])
    opens = rng.uniform(call.start_day, max(world.days - OPEN_DAYS[0], call.start_day), many)
    day = opens[shop] + rng.random(len(shop)) * rng.uniform(*OPEN_DAYS, many)[shop]
    user = rng.choice(len(world.users), len(shop), p=world.users.rate / world.users.rate.sum())
    at_home = world.trips.at(user, day)[0] < 0
    shop, day, user = shop[at_home], day[at_home], user[at_home]
    local = hours(rng, world.users.rhythm[user]) - world.cities.utc_offset[world.users.city[user]]
    time = world.start + np.floor(day).astype(np.int64) * DAY_MS + (local % 24.0 * HOUR_MS).astype(np.int64)
    hidden = np.where(rng.random(len(shop)) < 0.4, np.nan, 0.0)
    return Events(
        user=user,
        merchant=len(world.merchants.ids) + shop,
        time=time,
        amount=amounts(rng, world.users, user, trade(shop)) * CHEAP,
        channel=np.full(len(shop), ECOM, dtype=np.int64),
        country=world.users.country[user],
        device=own_device(rng, world.users, user, day),
        lat=world.users.lat[user] + rng.normal(0, 0.03, len(shop)) + hidden,
        lon=world.users.lon[user] + rng.normal(0, 0.03, len(shop)) + hidden,
        scenario=np.zeros(len(shop), dtype=np.int64),
    )


def trade(shop: Ints) -> Ints:
    """Return the category index of each shop, by its number from 0 on."""
    return np.asarray(TRADES[shop % len(TRADES)])
