"""Live traffic: what the simulated population does, happening now, and what becomes known of it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from fraud.codec import format_time
from fraud.schema import Label, Transaction
from producer.bad import Bad
from producer.simulate import Config, generate

_ROUND = 100_000  # events that are simulated at once: 0.2 s


def one_round(config: Config) -> Config:
    """Return the configuration with as many days as one round of traffic needs."""
    days = max(1, min(60, round(_ROUND / (config.users * config.per_day))))
    return replace(config, days=days)


class Live:
    """An endless stream of transactions, each with the time at which it is taken.

    The users, merchants and devices are those of `generate(config)`, in its order of events. A user's pace is
    the stream's, not a person's: at 1,000 a second, 5,000 users buy something every five seconds. After about
    100,000 events the same ones happen again, under new ids.
    """

    def __init__(self, config: Config, clock: Callable[[], int], labels_after_ms: int | None = None) -> None:
        """Know what happens; nothing is simulated yet.

        Args:
            clock: the present, ms since the epoch; its first value makes the ids unique to this stream.
            labels_after_ms: how long after it a fraud becomes known; None: never.
        """
        self._config, self._clock, self._after = config, clock, labels_after_ms
        self._unknown: deque[tuple[int, Transaction]] = deque()  # frauds, and when each becomes known

    def __iter__(self) -> Iterator[Transaction]:
        """Yield the transactions."""
        made = generate(one_round(self._config))
        events = made.transactions.drop("transaction_id", "timestamp")
        frauds = made.truth["is_fraud"].to_list()
        prefix = f"p{self._clock():x}-"
        number = 0
        while True:
            for (user, merchant, *rest), fraud in zip(events.iter_rows(), frauds, strict=True):
                now = self._clock()
                transaction = Transaction(f"{prefix}{number}", user, merchant, format_time(now), *rest)
                if fraud and self._after is not None:
                    self._unknown.append((now + self._after, transaction))
                yield transaction
                number += 1

    def with_labels(self, messages: Iterable[Transaction | Bad]) -> Iterator[Transaction | Bad | Label]:
        """Pass on messages that were made of this stream, and after each the labels whose time has come."""
        for message in messages:
            yield message
            now = self._clock()
            while self._unknown and self._unknown[0][0] <= now:
                _, fraud = self._unknown.popleft()
                yield Label(
                    transaction_id=fraud.transaction_id,
                    user_id=fraud.user_id,
                    merchant_id=fraud.merchant_id,
                    timestamp=fraud.timestamp,
                    is_fraud=True,
                    labelled_at=format_time(now),
                    source="simulator",
                )
