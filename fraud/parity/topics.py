"""Reading the topics from their beginning to where they end now."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fraud import bus
from fraud.errors import ServiceError, StateError
from fraud.parity.columns import (
    Messages,
    Predictions,
    Rejections,
    join_predictions,
    join_rejections,
    predictions,
    rejections,
    source_of,
)

PATIENCE_SECONDS = 30.0  # without a record
POLL_SECONDS = 0.5
# kafka-python computes checksums in Python: 120 of 130 microseconds a record. What is damaged can't agree here.
_OPTIONS = {
    "check_crcs": False,
    "max_partition_fetch_bytes": 8 << 20,
    "max_poll_records": 5_000,
    "client_id": "fraud-parity",
}


def wait_for_answers(bootstrap: str, seconds: float) -> bool:
    """Return once as many answers are published as there are messages, or, False, after `seconds`.

    A restarted job's repeats are counted too, so the last answers may still be missing then.
    """
    deadline = time.monotonic() + seconds
    while True:
        asked = sum(bus.end_offsets(bootstrap, bus.TRANSACTIONS).values())
        answered = sum(sum(bus.end_offsets(bootstrap, topic).values()) for topic in (bus.PREDICTIONS, bus.DLQ))
        if answered >= asked:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)


def read_transactions(bootstrap: str, *, limit: int | None = None) -> Messages:
    """Read `transactions`; with `limit` only the first so many messages, by the broker's time.

    Raises:
        StateError: the topic's first messages are gone, so nobody can say what followed from them.
        ServiceError: Kafka is away.
    """
    begins = bus.begin_offsets(bootstrap, bus.TRANSACTIONS)
    lost = {partition: offset for partition, offset in begins.items() if offset > 0}
    if lost:
        partition, offset = min(lost.items())
        raise StateError(
            f"{bus.TRANSACTIONS}, partition {partition} begins at offset {offset}: what came before is gone, "
            "and features can't be checked without it"
        )
    numbers, values, keys = [], [], []
    for partition, records in consume(bootstrap, bus.TRANSACTIONS, most=limit):
        numbers.append(np.array([(partition, one.offset, one.timestamp) for one in records], np.int64))
        values += [one.value for one in records]
        keys += [one.key for one in records]
    columns = np.concatenate(numbers) if numbers else np.empty((0, 3), np.int64)
    sources = source_of(columns[:, 0], columns[:, 1])
    order = np.argsort(sources)
    if limit is not None:
        first = _earliest(columns, order)[:limit]
        order = first[np.argsort(sources[first])]
    return Messages(sources[order], columns[order, 2], [keys[row] for row in order], [values[row] for row in order])


def read_predictions(bootstrap: str) -> Predictions:
    """Read `fraud_predictions`. Raises ServiceError if Kafka is away, DataError if one can't be read."""
    return join_predictions(
        [
            predictions([one.value for one in records], bus.TRANSACTIONS)
            for _, records in consume(bootstrap, bus.PREDICTIONS)
        ]
    )


def read_rejections(bootstrap: str) -> Rejections:
    """Read `transactions_dlq`; raises as `read_predictions`."""
    return join_rejections(
        [rejections([one.value for one in records], bus.TRANSACTIONS) for _, records in consume(bootstrap, bus.DLQ)]
    )


def consume(
    bootstrap: str, topic: str, *, most: int | None = None, starts: Mapping[int, int] | None = None
) -> Iterator[tuple[int, list[Any]]]:
    """Yield partitions and their records in offset order, up to the topic's ends at the start.

    Args:
        most: stop after so many records of a partition.
        starts: partition → offset to begin at; a partition that isn't among them begins at its beginning.

    Raises:
        StateError: there is no such topic.
        ServiceError: Kafka is away or stopped answering.
    """
    from kafka import TopicPartition
    from kafka.errors import KafkaError

    begins, ends = bus.begin_offsets(bootstrap, topic), bus.end_offsets(bootstrap, topic)
    begins |= {part: max(begins[part], at) for part, at in (starts or {}).items() if part in begins}
    if most is not None:
        ends = {partition: min(end, begins[partition] + most) for partition, end in ends.items()}
    left = {TopicPartition(topic, partition): end for partition, end in ends.items() if begins[partition] < end}
    if not left:
        return
    client = bus.consumer(bootstrap, **_OPTIONS)
    try:
        client.assign(list(left))
        for part in left:
            client.seek(part, begins[part.partition])
        deadline = time.monotonic() + PATIENCE_SECONDS
        while left:
            for part, records in client.poll(timeout_ms=500).items():
                deadline = time.monotonic() + PATIENCE_SECONDS
                if part in left:
                    yield part.partition, [one for one in records if one.offset < left[part]]
            for part in [part for part, end in left.items() if client.position(part) >= end]:
                client.pause(part)
                del left[part]
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"Kafka at {bootstrap} sent nothing of {topic} for {PATIENCE_SECONDS:.0f} s; "
                    f"still to read: {', '.join(f'{p.partition} up to {end}' for p, end in left.items())}"
                )
    except KafkaError as exc:
        raise ServiceError(f"reading {topic} from Kafka at {bootstrap} failed: {exc}") from exc
    finally:
        client.close()


def _earliest(columns: Any, order: Any) -> Any:
    """Sort rows by the broker's time without ever changing the order inside a partition."""
    times = columns[order, 2].copy()
    for partition in np.unique(columns[:, 0]):
        mine = columns[order, 0] == partition
        times[mine] = np.maximum.accumulate(times[mine])
    return order[np.argsort(times, kind="stable")]
