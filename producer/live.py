"""Live traffic: what the simulated population does, happening now."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from fraud.codec import format_time
from fraud.schema import Transaction
from producer.simulate import Config, generate

_ROUND = 100_000  # events that are simulated at once: 0.2 s


def one_round(config: Config) -> Config:
    """Return the configuration with as many days as one round of traffic needs."""
    days = max(1, min(60, round(_ROUND / (config.users * config.per_day))))
    return replace(config, days=days)


def live(config: Config, clock: Callable[[], int]) -> Iterator[Transaction]:
    """Return an endless stream of transactions, each with the time at which it is taken.

    The users, merchants and devices are those of `generate(config)`, in its order of events. A user's pace is
    the stream's, not a person's: at 1,000 a second, 5,000 users buy something every five seconds. After about
    100,000 events the same ones happen again, under new ids.

    Args:
        clock: the present, ms since the epoch; its first value makes the ids unique to this stream.
    """
    events = generate(one_round(config)).transactions.drop("transaction_id", "timestamp")
    prefix = f"p{clock():x}-"
    number = 0
    while True:
        for user, merchant, *rest in events.iter_rows():
            yield Transaction(f"{prefix}{number}", user, merchant, format_time(clock()), *rest)
            number += 1
