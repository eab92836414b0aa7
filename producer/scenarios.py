"""How fraud happens: named scenarios, each a function that draws its events.

A scenario is labelled in the truth, never in the event. Each has a generator of its own, so switching one
off leaves the honest events and the other scenarios as they were.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraud.errors import ConfigError
from producer.catalogue import (
    ATM,
    CATEGORIES,
    CATEGORY_CHANNEL,
    COUNTRIES,
    ECOM,
    PER_EURO,
    POS,
    TRANSFER,
    category_indices,
    shares,
)
from producer.events import Call, Events, amounts, card_present, own_device
from producer.rhythm import DAY_MS, HOUR_MS
from producer.shops import fake_shops

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MINUTE_MS = 60_000
HONEST_LOOK = 0.15  # share of remote fraud from the victim's own device (malware, a thief at home)


@dataclass(frozen=True)
class Scenario:
    """A named way to defraud: how much of it, and from which day of the simulation on."""

    name: str
    share: float  # frauds per honest transaction, while it is active
    draw: Callable[[Call], Events]
    start_day: float = 0.0


@dataclass(frozen=True)
class _Sprees:
    """Incidents: a victim and a beginning each; `of` names the incident of every event."""

    of: Ints
    victim: Ints
    begin: Ints  # ms since the epoch

    @property
    def user(self) -> Ints:
        return np.asarray(self.victim[self.of])

    @property
    def last(self) -> npt.NDArray[np.bool_]:
        return np.asarray(np.r_[self.of[1:] != self.of[:-1], True])


def _sprees(call: Call, least: int, most: int) -> _Sprees:
    """Draw as many incidents of least … most events as the wanted frauds fill."""
    rng, world = call.rng, call.world
    size = rng.integers(least, most + 1, call.wanted // least + 1)
    many = int(np.searchsorted(np.cumsum(size), call.wanted)) + 1
    day = rng.uniform(call.start_day, world.days, many)
    begin = world.start + (day * DAY_MS).astype(np.int64)
    return _Sprees(np.repeat(np.arange(many), size[:many]), rng.integers(0, len(world.users), many), begin)


def _times(call: Call, sprees: _Sprees, median_minutes: float, sigma: float) -> Ints:
    """Draw ascending times within each incident, whose length is lognormal."""
    length = call.rng.lognormal(np.log(median_minutes * MINUTE_MS), sigma, len(sprees.victim))
    offset = call.rng.random(len(sprees.of)) * length[sprees.of]
    offset = offset[np.lexsort((offset, sprees.of))]
    return np.asarray(sprees.begin[sprees.of] + offset.astype(np.int64))


def _loot(rng: np.random.Generator, channels: tuple[int, ...], count: int) -> Ints:
    """Draw categories that thieves like, on the given channels."""
    allowed = np.concatenate([category_indices(c) for c in channels])
    return np.asarray(rng.choice(allowed, count, p=shares([CATEGORIES[c].loot for c in allowed])))


def _foreign(rng: np.random.Generator, home: Ints, share: float) -> Ints:
    """Draw where fraud happens: `share` of it in another country than home."""
    country = rng.choice(len(COUNTRIES), len(home), p=shares([c.abuse for c in COUNTRIES]))
    country[country == home] = len(COUNTRIES) - 1
    return np.asarray(np.where(rng.random(len(home)) < share, country, home))


def _devices(call: Call, sprees: _Sprees, number: int, own: float, hidden: float) -> Ints:
    """Draw a device per incident: the victim's own, none, or one that nobody else uses."""
    many = len(sprees.victim)
    draw = call.rng.random(many)
    strange = (len(call.world.users) + np.arange(many)) * 16 + 10 + number
    day = (sprees.begin - call.world.start) / DAY_MS
    mine = own_device(call.rng, call.world.users, sprees.victim, day)
    return np.asarray(np.where(draw < own, mine, np.where(draw < own + hidden, 0, strange))[sprees.of])


def _events(
    call: Call, sprees: _Sprees, time: Ints, category: Ints, amount: Floats, country: Ints, device: Ints
) -> Events:
    """Put an incident's events together; `country` is per incident, position hidden on half of the remote."""
    rng, world = call.rng, call.world
    channel = CATEGORY_CHANNEL[category].astype(np.int64)
    home = world.users.country[sprees.victim]
    near = (country == home) & (rng.random(len(home)) < 0.4)
    city = np.where(near, world.users.city[sprees.victim], world.cities.pick(rng, country))[sprees.of]
    hidden = np.where(~card_present(channel) & (rng.random(len(time)) < 0.5), np.nan, 0.0)
    return Events(
        user=sprees.user,
        merchant=world.merchants.pick(rng, category, country[sprees.of]),
        time=time,
        amount=amount,
        channel=channel,
        country=country[sprees.of],
        device=device,
        lat=world.cities.lat[city] + rng.normal(0, 0.03, len(time)) + hidden,
        lon=world.cities.lon[city] + rng.normal(0, 0.03, len(time)) + hidden,
        scenario=np.zeros(len(time), dtype=np.int64),
    )


def stolen_card(call: Call) -> Events:
    """Use a stolen card in person and fast: mostly abroad, sometimes at home."""
    sprees = _sprees(call, 2, 7)
    category = _loot(call.rng, (POS, ATM), len(sprees.of))
    usual = amounts(call.rng, call.world.users, sprees.user, category)
    amount = usual * call.rng.lognormal(np.log(1.3), 0.4, len(usual))
    country = _foreign(call.rng, call.world.users.country[sprees.victim], 0.7)
    time = _times(call, sprees, 120, 0.9)
    return _events(call, sprees, time, category, amount, country, np.zeros(len(time), dtype=np.int64))


def card_testing(call: Call) -> Events:
    """Try a card number with small amounts online, then take a large one."""
    rng = call.rng
    sprees = _sprees(call, 3, 11)
    count = len(sprees.of)
    one = _loot(rng, (ECOM,), len(sprees.victim))[sprees.of]
    category = np.where(rng.random(count) < 0.7, one, _loot(rng, (ECOM,), count))
    time = _times(call, sprees, 45, 1.0)
    time[sprees.last] += rng.integers(5 * MINUTE_MS, 8 * HOUR_MS, int(sprees.last.sum()))
    small = rng.lognormal(np.log(4.0), 0.8, count) * PER_EURO[call.world.users.country[sprees.user]]
    large = amounts(rng, call.world.users, sprees.user, category) * rng.uniform(1.2, 5, count)
    country = _foreign(rng, call.world.users.country[sprees.victim], 0.2)
    device = _devices(call, sprees, 1, own=0.0, hidden=0.5)
    return _events(call, sprees, time, category, np.where(sprees.last, large, small), country, device)


def account_takeover(call: Call) -> Events:
    """Empty a taken account from a new device: transfers and purchases of more than usual."""
    rng = call.rng
    sprees = _sprees(call, 1, 5)
    count = len(sprees.of)
    category = np.where(rng.random(count) < 0.65, _loot(rng, (TRANSFER,), count), _loot(rng, (ECOM,), count))
    amount = amounts(rng, call.world.users, sprees.user, category) * rng.uniform(1.0, 5, count)
    country = _foreign(rng, call.world.users.country[sprees.victim], 0.25)
    device = _devices(call, sprees, 2, own=HONEST_LOOK, hidden=0.1)
    return _events(call, sprees, _times(call, sprees, 300, 1.2), category, amount, country, device)


def merchant_compromise(call: Call) -> Events:
    """Charge the customers of a compromised merchant again, for two to five weeks.

    A fraud repeats one of the merchant's honest visits: same user, channel and place, hours to days later.
    """
    rng, honest = call.rng, call.honest
    visits = np.flatnonzero(honest.channel != ATM)
    order = rng.permutation(len(call.world.merchants.ids))
    per_merchant = np.bincount(honest.merchant[visits], minlength=len(order))
    begin = (
        call.world.start
        + call.start_day * DAY_MS
        + rng.uniform(-20, call.world.days - call.start_day, len(order)) * DAY_MS
    )
    begin = np.maximum(begin, call.world.start + call.start_day * DAY_MS)
    until = begin + rng.uniform(14, 35, len(order)) * DAY_MS
    inside = (honest.time[visits] >= begin[honest.merchant[visits]]) & (
        honest.time[visits] < until[honest.merchant[visits]]
    )
    visits = visits[inside]
    exposed = np.bincount(honest.merchant[visits], minlength=len(order))
    exposed[(per_merchant < 4) | (per_merchant > 40 * np.median(per_merchant[per_merchant > 0]))] = 0
    rate = 0.5
    taken = order[np.cumsum(exposed[order] * rate) <= call.wanted]
    if not exposed[taken].any():  # a small world: the first merchant alone has more visits than are wanted
        order = np.argsort(exposed, kind="stable")
        order = order[exposed[order] > 0]
        taken = order[: max(1, int(np.searchsorted(np.cumsum(exposed[order] * rate), call.wanted, side="right")))]
    visits = visits[np.isin(honest.merchant[visits], taken) & (exposed[honest.merchant[visits]] > 0)]
    copies = honest.take(visits[rng.random(len(visits)) < rate])
    delay = rng.lognormal(np.log(10 * HOUR_MS), 1.0, len(copies)).astype(np.int64)
    return Events(
        **{
            **{name: getattr(copies, name) for name in ("user", "merchant", "channel", "country", "lat", "lon")},
            "time": copies.time + delay,
            "amount": copies.amount * rng.lognormal(np.log(1.3), 0.5, len(copies)),
            "device": np.where(rng.random(len(copies)) < 0.5, copies.device, 0),
            "scenario": copies.scenario,
        }
    )


SCENARIOS = (
    Scenario("stolen_card", 0.0018, stolen_card),
    Scenario("card_testing", 0.0018, card_testing),
    Scenario("account_takeover", 0.0018, account_takeover),
    Scenario("merchant_compromise", 0.0022, merchant_compromise),
    Scenario("fake_shops", 0.0014, fake_shops),
)


def scenario(name: str, start_day: float = 0.0) -> Scenario:
    """Return a scenario by name, starting on a day of the simulation.

    Raises:
        ConfigError: no scenario has that name.

    >>> scenario("card_testing", 30).start_day
    30
    """
    for known in SCENARIOS:
        if known.name == name:
            return Scenario(known.name, known.share, known.draw, start_day)
    names = ", ".join(s.name for s in SCENARIOS)
    raise ConfigError(f"no fraud scenario is called {name!r}; there are {names}")


def choose(only: Sequence[str], without: Sequence[str]) -> tuple[Scenario, ...]:
    """Return the scenarios that are switched on: `only` these (NAME or NAME@DAY; empty: all), less `without`.

    >>> [s.name for s in choose([], ["stolen_card", "card_testing"])]
    ['account_takeover', 'merchant_compromise']
    >>> choose(["card_testing@30"], [])[0].start_day
    30.0
    """
    chosen = []
    for text in only or [s.name for s in SCENARIOS]:
        name, _, day = text.partition("@")
        try:
            begins = float(day) if "@" in text else 0.0
        except ValueError as exc:
            raise ConfigError(f"{text!r}: the day after @ is a number, e.g. {name}@30") from exc
        if not begins >= 0:
            raise ConfigError(f"{text!r}: the day after @ is 0 or later")
        chosen.append(scenario(name, begins))
    left_out = {scenario(name).name for name in without}
    return tuple(s for s in chosen if s.name not in left_out)
