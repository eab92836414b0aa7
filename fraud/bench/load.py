"""The load generator: prepared messages, sent as fast as possible or on a steady schedule.

confluent-kafka, with Java's partitioner: kafka-python would cost as much CPU as the job under test.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from fraud import bus
from fraud.errors import ServiceError

if TYPE_CHECKING:
    from confluent_kafka import Producer

TICK_SECONDS = 0.005  # a paced message leaves at most this late
Message = tuple[bytes, bytes]  # key, value


def open_producer(bootstrap: str) -> "Producer":
    """Return a producer that waits for all replicas and partitions as the platform does.

    Raises:
        ModuleNotFoundError: confluent-kafka isn't installed; the command line says how.
    """
    from confluent_kafka import Producer

    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "linger.ms": 2,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 2_000_000,
            "queue.buffering.max.kbytes": 2_000_000,
            "message.max.bytes": bus.LARGEST_MESSAGE,
        }
    )


def fill(bootstrap: str, messages: Sequence[Message]) -> None:
    """Send every message as fast as the broker takes them; raises ServiceError if one wasn't acknowledged."""
    producer = open_producer(bootstrap)
    failures: list[str] = []
    for key, value in messages:
        _send(producer, key, value, failures)
    _flush(producer, failures)


def pace(
    bootstrap: str,
    messages: Iterable[Message],
    rate: float,
    now: Callable[[], float] = time.monotonic,
    enough: Callable[[], bool] = lambda: False,
) -> int:
    """Send the messages on a steady schedule of `rate` a second, until `enough`; return how many were sent.

    Raises ServiceError as `fill`.
    """
    producer = open_producer(bootstrap)
    failures: list[str] = []
    begin, sent, waiting = now(), 0, iter(messages)
    while not enough():
        due = int((now() - begin) * rate) + 1 - sent
        batch = list(islice(waiting, due))
        for key, value in batch:
            _send(producer, key, value, failures)
        sent += len(batch)
        if len(batch) < due:
            break
        producer.poll(0)
        time.sleep(TICK_SECONDS)
    _flush(producer, failures)
    return sent


def _send(producer: "Producer", key: bytes, value: bytes, failures: list[str]) -> None:
    def acknowledged(error: object, _: object) -> None:
        if error is not None:
            failures.append(str(error))

    while True:
        try:
            producer.produce(bus.TRANSACTIONS, value, key, on_delivery=acknowledged)
        except BufferError:
            producer.poll(0.1)
        else:
            return


def _flush(producer: "Producer", failures: list[str]) -> None:
    left = producer.flush(60)
    if left or failures:
        raise ServiceError(f"Kafka didn't acknowledge {left + len(failures)} messages: {(failures or ['time out'])[0]}")
