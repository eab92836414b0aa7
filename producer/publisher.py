"""Messages to Kafka: checked, paced, and each one's acknowledgement awaited; nothing is lost silently."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fraud import bus
from fraud.codec import encode, parse_time
from fraud.errors import ConfigError, ServiceError
from fraud.schema import Label, Reason, Transaction
from fraud.settings import Settings
from producer.bad import Bad
from producer.check import Check
from producer.deliveries import Deliveries
from producer.pace import Pace, chosen

if TYPE_CHECKING:
    from kafka import KafkaProducer

Sendable = Transaction | Label | Bad

PATIENCE_S = 60.0  # how long Kafka may be away before a message counts as lost
FAREWELL_S = 10.0  # how long a stopped publisher waits for what is under way
PROGRESS_S = 0.5
_NAP_S = 0.05  # `stop` is seen within it
_ROOM_NAP_S = 0.002


@dataclass(frozen=True)
class Published:
    """What Kafka has acknowledged.

    Attributes:
        valid, bad: messages.
        expected: bad messages by the reason for which they should be rejected.
        offsets: partition → first and last offset.
        seconds: from the first message until now.
        interrupted: `stop` was set before the messages or the seconds were over.
        labels: that went to their own topic meanwhile.
    """

    topic: str
    valid: int
    bad: int
    expected: dict[Reason, int]
    offsets: dict[int, tuple[int, int]]
    seconds: float
    interrupted: bool = False
    labels: int = 0

    @property
    def total(self) -> int:
        """Valid and bad messages together, without the labels."""
        return self.valid + self.bad


class _Run:
    """One call of `publish`."""

    def __init__(self, client: "KafkaProducer", topic: str, pace: Pace, by_event: bool, validate: bool) -> None:
        self.client, self.topic, self.pace, self.by_event = client, topic, pace, by_event
        self.checks = {kind: Check(kind) for kind in (Transaction, Label)} if validate else {}
        self.deliveries = Deliveries(topic)
        self.begin = time.monotonic()
        self.until: float | None = None
        self.stop: threading.Event | None = None
        self.progress: Callable[[Published], None] | None = None
        self.reported = self.begin

    def send_all(self, messages: Iterable[Sendable]) -> None:
        """Send until the messages, the time or Kafka's patience end, or `stop` is set."""
        iterator = iter(messages)
        has_turn = False
        while self._turn(None if self.by_event or has_turn else 0):
            message = next(iterator, None)
            if message is None or (self.by_event and not self._turn(_event_ms(message))):
                return
            self._send(message)
            # A label beside the transactions leaves the turn to the next of them.
            has_turn = not self.by_event and self._topic_of(message) != self.topic

    def _topic_of(self, message: Sendable) -> str:
        return bus.LABELS if isinstance(message, Label) else self.topic

    def _send(self, message: Sendable) -> None:
        if isinstance(message, Bad):
            key, value, expected = message.key, message.value, message.expected
        else:
            if self.checks:
                self.checks[type(message)](message)
            key, value, expected = message.user_id.encode(), encode(message), None
        future = self.client.send(self._topic_of(message), value=value, key=key)
        self.deliveries.add(future, expected, len(value or b"") + len(key or b""))

    def _turn(self, event_ms: int | None) -> bool:
        """Wait for room and for the turn (None: take none yet); False: no message goes out any more."""
        deliveries = self.deliveries
        while True:
            deliveries.settle()
            if deliveries.failed or self.over():
                return False
            self._report()
            nap = _ROOM_NAP_S if deliveries.full else 0.0 if event_ms is None else self.pace.wait(event_ms)
            if nap <= 0:
                return True
            time.sleep(min(nap, _NAP_S))

    def over(self) -> bool:
        return self.interrupted() or (self.until is not None and time.monotonic() >= self.until)

    def interrupted(self) -> bool:
        return self.stop is not None and self.stop.is_set()

    def drain(self, patience_s: float) -> None:
        """Wait for what is under way."""
        deadline = time.monotonic() + patience_s
        self.deliveries.settle()
        while self.deliveries.pending and time.monotonic() < deadline:
            self._report()
            time.sleep(_ROOM_NAP_S)
            self.deliveries.settle()

    def _report(self) -> None:
        now = time.monotonic()
        if self.progress is not None and now - self.reported >= PROGRESS_S:
            self.reported = now
            self.progress(self.published())

    def published(self) -> Published:
        done = self.deliveries
        return Published(
            topic=self.topic,
            valid=done.valid,
            bad=done.acked - done.valid,
            expected=dict(done.expected),
            offsets=dict(sorted(done.offsets.items())),
            seconds=time.monotonic() - self.begin,
            interrupted=self.interrupted(),
            labels=done.besides,
        )


def publish(
    settings: Settings,
    messages: Iterable[Sendable],
    *,
    topic: str = bus.TRANSACTIONS,
    rate: float | None = None,
    speed: float | None = None,
    seconds: float | None = None,
    stop: threading.Event | None = None,
    progress: Callable[[Published], None] | None = None,
    validate: bool = True,
    patience_s: float = PATIENCE_S,
) -> Published:
    """Send messages in their order, wait for every acknowledgement, and return what Kafka has.

    The key is user_id. Labels go to `transaction_labels`, also from between transactions, where they take no turn
    of the rate; everything else goes to `topic`. Kafka may be away for `patience_s`: the client tries again and
    repeats nothing. With `rate` a message is taken from the iterable when its turn has come, so it may carry the
    present time.

    Args:
        rate: messages a second. speed: as far apart as they happened, so many times faster. Neither: at once.
        seconds: end after so long, 0 or more. stop: end when it is set; what is under way is still awaited.
        progress: called twice a second or less.
        validate: check each message with its JSON Schema first (about 20 µs).

    Raises:
        ConfigError: both `rate` and `speed`, one that isn't above 0, or seconds that aren't a time.
        DataError: a message breaks its schema; those before it were sent.
        ServiceError: Kafka is away for longer or refuses a message; says how many were acknowledged.
        StateError: there is no such topic.
    """
    from kafka.errors import KafkaError

    pace = chosen(rate, speed)
    if seconds is not None and not seconds >= 0:
        raise ConfigError(f"{seconds:g} seconds are no time; give 0 or more")
    bus.describe(settings.kafka_bootstrap, topic)
    client = bus.producer(settings.kafka_bootstrap, **_patience(patience_s))
    run = _Run(client, topic, pace, speed is not None, validate)
    run.stop, run.progress = stop, progress
    run.until = None if seconds is None else run.begin + seconds
    try:
        run.send_all(messages)
    except KafkaError as exc:
        run.deliveries.failed += 1
        run.deliveries.failure = exc
    finally:
        hasty = run.interrupted() or run.deliveries.failed > 0
        run.drain(FAREWELL_S if hasty else patience_s + FAREWELL_S)
        _close(client, idle=not run.deliveries.pending)
    unheard = run.deliveries.failed + len(run.deliveries.pending)
    if unheard:
        raise ServiceError(
            f"Kafka at {settings.kafka_bootstrap} acknowledged {run.deliveries.acked:,} messages on {topic}; "
            f"of {unheard:,} more it isn't known whether they arrived ({run.deliveries.failure or 'no answer yet'}), "
            f"and the rest wasn't sent; see `fraud-detect status`, and continue with what comes after them"
        )
    return run.published()


def _close(client: "KafkaProducer", idle: bool) -> None:
    """Close the client; what is still under way is given up first, or its flush would wait for it."""
    if not idle:
        client._sender.force_close()
    client.close(timeout=FAREWELL_S)


def _patience(patience_s: float) -> dict[str, Any]:
    """Return the client's time limits: several tries, a second apart at most, within `patience_s`."""
    return {
        "delivery_timeout_ms": round(patience_s * 1000),
        "request_timeout_ms": round(min(10.0, patience_s / 2) * 1000),
        "max_block_ms": round(patience_s * 1000),
        "reconnect_backoff_max_ms": 1_000,
        "allow_auto_create_topics": False,
    }


def _event_ms(message: Sendable) -> int:
    if isinstance(message, Bad):
        return 0  # a mistake goes with its neighbours
    return parse_time(message.labelled_at if isinstance(message, Label) else message.timestamp)
