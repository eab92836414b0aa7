"""From a transaction's broker time to its prediction's: percentiles, matched by source offset."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from fraud import bus
from fraud.errors import ServiceError

if TYPE_CHECKING:
    from confluent_kafka import Message

IDLE_SECONDS = 20.0


class _Source(msgspec.Struct):
    partition: int
    offset: int


class _Answer(msgspec.Struct):
    """The part of a prediction or rejection that says which message it answers."""

    source: _Source


_ANSWER = msgspec.json.Decoder(_Answer)


def source_of(answer: bytes) -> tuple[int, int]:
    """Return partition and offset of the message that a prediction or rejection answers."""
    source = _ANSWER.decode(answer).source
    return source.partition, source.offset


@dataclass(frozen=True)
class Latencies:
    """Milliseconds from broker time to broker time, shape (answered,), and what was never answered."""

    ms: npt.NDArray[np.int64]
    missing: int

    def percentiles(self) -> dict[str, float]:
        """Return p50, p95, p99 and p99.9 in ms.

        >>> Latencies(np.array([1, 2, 3]), 0).percentiles()["p50"]
        2.0
        """
        shares = {"p50": 50, "p95": 95, "p99": 99, "p999": 99.9}
        values = np.percentile(self.ms, list(shares.values())) if len(self.ms) else [float("nan")] * len(shares)
        return {name: round(float(value), 1) for name, value in zip(shares, values, strict=True)}


def latencies(
    bootstrap: str, since: Mapping[int, int], until: Mapping[int, int], answers_since: Mapping[int, int]
) -> Latencies:
    """Match the transactions of [since, until) with their first predictions.

    Args:
        since, until: offsets of `transactions` per partition.
        answers_since: offsets of `fraud_predictions` from which to look.

    Raises:
        ServiceError: Kafka doesn't give what it said it holds.
    """
    sent = {
        (message.partition(), message.offset()): message.timestamp()[1]
        for message in read(bootstrap, bus.TRANSACTIONS, since, until)
    }
    found: dict[tuple[int, int], int] = {}
    ends = bus.end_offsets(bootstrap, bus.PREDICTIONS)
    for message in read(bootstrap, bus.PREDICTIONS, answers_since, ends):
        key = source_of(message.value() or b"")
        if key in sent:
            found.setdefault(key, message.timestamp()[1])
    ms = np.fromiter((at - sent[key] for key, at in found.items()), np.int64, len(found))
    return Latencies(ms, len(sent) - len(found))


def read(bootstrap: str, topic: str, since: Mapping[int, int], until: Mapping[int, int]) -> Iterator["Message"]:
    """Yield every message of [since, until) of each partition.

    Raises:
        ServiceError: Kafka doesn't give what it said it holds.
    """
    from confluent_kafka import Consumer, TopicPartition

    open_parts = {p: end for p, end in until.items() if end > since.get(p, 0)}
    if not open_parts:
        return
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "fraud-bench", "enable.auto.commit": False, "check.crcs": False}
    )
    try:
        consumer.assign([TopicPartition(topic, p, since.get(p, 0)) for p in open_parts])
        while open_parts:
            batch = consumer.consume(5_000, timeout=IDLE_SECONDS)
            if not batch:
                raise ServiceError(f"Kafka at {bootstrap} gave nothing of {topic} for {IDLE_SECONDS:.0f} s")
            for message in batch:
                partition, offset = message.partition(), message.offset()
                if message.error() is not None or partition is None or offset is None:
                    raise ServiceError(f"reading {topic}: {message.error()}")
                if partition in open_parts and offset < until[partition]:
                    yield message
                if offset >= until[partition] - 1:
                    open_parts.pop(partition, None)
    finally:
        consumer.close()
