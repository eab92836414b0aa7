"""Predictions scrolling by: the flagged ones as they come, a count now and then."""

import threading
import time
from collections.abc import Callable

import msgspec

from fraud import bus
from fraud.errors import ServiceError

LINES_PER_SECOND = 2.0  # what a person can follow
COUNT_SECONDS = 10.0
POLL_MS = 200


class Shown(msgspec.Struct, frozen=True, gc=False):
    """The part of a prediction that is shown."""

    timestamp: str
    user_id: str
    merchant_id: str
    amount: float
    fraud_probability: float
    decision: str
    model_version: str


class Ticker:
    """A consumer in a thread, from the topic's end on; it shows, and misses nothing that matters to the report."""

    def __init__(self, bootstrap: str, say: Callable[[str], None]) -> None:
        self._bootstrap, self._say = bootstrap, say
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._end.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        try:
            self._show()
        except ServiceError as exc:
            self._say(f"predictions can't be shown any more: {exc}")

    def _show(self) -> None:
        from kafka import TopicPartition
        from kafka.errors import KafkaError

        decoder = msgspec.json.Decoder(Shown)
        parts = [TopicPartition(bus.PREDICTIONS, p) for p in range(bus.partitions(self._bootstrap, bus.PREDICTIONS))]
        consumer = bus.consumer(self._bootstrap, auto_offset_reset="latest", max_poll_records=5_000)
        try:
            consumer.assign(parts)
            counts: dict[str, int] = {}
            quiet_until = 0.0
            next_count = time.monotonic() + COUNT_SECONDS
            while not self._end.is_set():
                for records in consumer.poll(timeout_ms=POLL_MS).values():
                    for record in records:
                        shown = decoder.decode(record.value)
                        counts[shown.decision] = counts.get(shown.decision, 0) + 1
                        if shown.decision != "APPROVE" and time.monotonic() >= quiet_until:
                            quiet_until = time.monotonic() + 1 / LINES_PER_SECOND
                            self._say(line(shown))
                if time.monotonic() >= next_count:
                    next_count += COUNT_SECONDS
                    self._say("  " + ", ".join(f"{n:,} {name}" for name, n in sorted(counts.items())))
        except KafkaError as exc:
            raise ServiceError(f"{type(exc).__name__}: {exc}") from exc
        finally:
            consumer.close()


def line(shown: Shown) -> str:
    """Return a prediction in one line.

    >>> line(Shown("2026-01-31T10:00:00.000Z", "u1", "m2", 12.5, 0.91, "BLOCK", "1"))
    '  2026-01-31 10:00:00  BLOCK   0.910  u1 pays m2      12.50  (version 1)'
    """
    at = shown.timestamp[:19].replace("T", " ")
    return (
        f"  {at}  {shown.decision:<7} {shown.fraud_probability:.3f}  {shown.user_id} pays {shown.merchant_id} "
        f"{shown.amount:>10,.2f}  (version {shown.model_version})"
    )
