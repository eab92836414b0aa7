"""What the simulated world is made of: countries with their currencies, and merchant categories.

Amounts are typical card amounts in euros; `per_euro` turns them into the account's currency. The rates are
round numbers, not a market's.
"""

from typing import NamedTuple

import numpy as np

CHANNELS = ("pos", "ecom", "atm", "transfer")
POS, ECOM, ATM, TRANSFER = range(4)


class Country(NamedTuple):
    """A country: where users live (`homes`), where they travel (`visits`), where stolen cards are used."""

    code: str
    currency: str
    per_euro: float
    homes: float
    visits: float
    abuse: float


COUNTRIES = (
    Country("FR", "EUR", 1.0, 22, 12, 6),
    Country("DE", "EUR", 1.0, 22, 10, 6),
    Country("IT", "EUR", 1.0, 12, 12, 6),
    Country("ES", "EUR", 1.0, 12, 14, 6),
    Country("GB", "GBP", 0.86, 12, 9, 8),
    Country("NL", "EUR", 1.0, 6, 6, 4),
    Country("BE", "EUR", 1.0, 4, 4, 4),
    Country("PT", "EUR", 1.0, 3, 6, 3),
    Country("AT", "EUR", 1.0, 2, 5, 2),
    Country("PL", "PLN", 4.3, 3, 3, 4),
    Country("CZ", "CZK", 25.0, 1, 3, 3),
    Country("SE", "SEK", 11.0, 1, 2, 2),
    Country("US", "USD", 1.1, 0, 6, 12),
    Country("TR", "TRY", 38.0, 0, 4, 8),
    Country("TH", "THB", 38.0, 0, 2, 8),
    Country("MX", "MXN", 20.0, 0, 1, 8),
    Country("BR", "BRL", 6.0, 0, 1, 10),
)


class Category(NamedTuple):
    """A merchant category on one channel: median amount in euros, spread of its logarithm, frequencies."""

    mcc: str
    channel: int
    median: float
    sigma: float
    share: float  # of purchases at home
    travel: float  # of purchases abroad
    loot: float  # how much thieves like it
    merchants: float  # of all merchants


CATEGORIES = (
    Category("5411", POS, 28, 0.7, 20, 8, 1, 12),  # groceries
    Category("5812", POS, 24, 0.6, 12, 26, 1, 16),  # restaurants
    Category("5541", POS, 48, 0.4, 6, 5, 3, 5),  # fuel
    Category("5912", POS, 14, 0.7, 4, 3, 2, 5),  # pharmacies
    Category("5651", POS, 52, 0.7, 5, 8, 5, 8),  # clothing
    Category("5311", POS, 60, 0.8, 3, 4, 6, 3),  # department stores
    Category("5732", POS, 130, 0.9, 2, 2, 10, 4),  # electronics
    Category("5944", POS, 150, 0.9, 0.6, 1, 8, 2),  # jewellery
    Category("7011", POS, 140, 0.6, 1, 12, 1, 5),  # hotels
    Category("4121", POS, 15, 0.5, 4, 9, 1, 3),  # taxis
    Category("6011", ATM, 80, 0.6, 7, 12, 9, 6),  # cash machines
    Category("5968", ECOM, 11, 0.4, 6, 2, 1, 3),  # subscriptions
    Category("5815", ECOM, 9, 0.8, 7, 3, 4, 5),  # digital goods
    Category("5999", ECOM, 38, 0.8, 9, 3, 6, 8),  # shops online
    Category("5734", ECOM, 95, 0.9, 3, 1, 8, 4),  # electronics online
    Category("4722", ECOM, 220, 0.8, 1.4, 1, 4, 3),  # travel agencies
    Category("7995", ECOM, 30, 1.0, 1.5, 0.5, 3, 2),  # gambling
    Category("4900", ECOM, 75, 0.5, 3, 0, 0, 2),  # utilities
    Category("4829", TRANSFER, 160, 1.0, 4.5, 1, 8, 4),  # money transfer
)

CATEGORY_CHANNEL = np.array([c.channel for c in CATEGORIES], dtype=np.int8)
CATEGORY_MEDIAN = np.array([c.median for c in CATEGORIES])
CATEGORY_SIGMA = np.array([c.sigma for c in CATEGORIES])
PER_EURO = np.array([c.per_euro for c in COUNTRIES])


def shares(weights: list[float]) -> np.ndarray:
    """Return weights as probabilities.

    >>> shares([1, 3]).tolist()
    [0.25, 0.75]
    """
    values = np.asarray(weights, dtype=np.float64)
    return np.asarray(values / values.sum())


def category_indices(channel: int) -> np.ndarray:
    """Return the indices of the categories that sell on a channel."""
    return np.flatnonzero(channel == CATEGORY_CHANNEL)
