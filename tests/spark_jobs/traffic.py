"""Messages for the score job and its answers, by source offset; offered by `tests.spark_jobs.jobs`."""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from fraud import bus, codec
from fraud.settings import Settings
from fraud.store import open_store
from fraud.store.base import Pointer
from tests.models import small_bundle

ANSWER_SECONDS = 120.0
ONCE_BYTES = 900 * 1024  # one record batch; the broker takes up to 1 MiB


class Source(NamedTuple):
    """Where a message of `transactions` stands."""

    partition: int
    offset: int


class Message(NamedTuple):
    """What to send to `transactions`; `partition` None: the key's (murmur2)."""

    key: bytes | None
    value: bytes | None
    partition: int | None = None


@dataclass(frozen=True)
class Answer:
    """One published prediction or rejection; `at` is the broker's time in ms."""

    kind: Literal["prediction", "rejection"]
    key: bytes | None
    value: bytes
    at: int
    partition: int
    offset: int

    def json(self) -> Any:
        """Return the value, parsed."""
        return json.loads(self.value)


@dataclass(frozen=True)
class Answers:
    """Both answer topics by source; each source's copies in the order in which they were published."""

    by_source: dict[Source, list[Answer]]
    missing: list[Source]

    @property
    def predictions(self) -> dict[Source, list[Answer]]:
        """Return the sources that were scored."""
        return {at: copies for at, copies in self.by_source.items() if copies[0].kind == "prediction"}

    @property
    def rejections(self) -> dict[Source, list[Answer]]:
        """Return the sources that were refused."""
        return {at: copies for at, copies in self.by_source.items() if copies[0].kind == "rejection"}

    @property
    def repeats(self) -> int:
        """Return how many answers were published beyond one per source."""
        return sum(len(copies) - 1 for copies in self.by_source.values())

    def differing(self) -> list[Source]:
        """Return the sources whose copies aren't the same bytes under the same key."""
        return [at for at, copies in self.by_source.items() if len({(c.kind, c.key, c.value) for c in copies}) > 1]

    def __getitem__(self, source: Source) -> Answer:
        return self.by_source[source][0]


def publish_model(settings: Settings, *, seed: int = 0, version: str = "1") -> None:
    """Put a small real bundle into the store and flip the pointer to it."""
    raw = small_bundle(seed).to_bytes()
    store = open_store(settings)
    try:
        before = store.serving.pointer()
        sequence = 0 if before is None else before.sequence
        sha256 = hashlib.sha256(raw).hexdigest()
        pointer = Pointer(sequence + 1, sha256, "fraud-detector", version, time.time_ns() // 1_000_000)
        store.serving.publish(raw, pointer, expected_sequence=sequence)
    finally:
        store.close()


def message(n: int, *, now_ms: int | None = None, **changes: Any) -> Message:
    """Return a valid transaction of one of 50 users, its time a second before now; `changes` replace fields."""
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    values = {
        "transaction_id": f"t{n}",
        "user_id": f"u{n % 50}",
        "merchant_id": f"m{n % 20}",
        "timestamp": codec.format_time(now_ms - 1_000),
        "amount": 10.0 + n % 100,
        "currency": "EUR",
        "merchant_category": "5411",
        "channel": "ecom",
        "country": "DE" if n % 4 else None,
        "device_id": f"d{n % 2}",
        "latitude": 52.0 + n % 7,
        "longitude": 13.0,
        **changes,
    }
    return Message(str(values["user_id"]).encode(), json.dumps(values).encode())


def transactions(count: int, *, first: int = 0) -> Iterator[Message]:
    """Yield `count` valid transactions numbered from `first`."""
    return (message(n) for n in range(first, first + count))


def produce(settings: Settings, messages: Iterable[Message]) -> list[Source]:
    """Send messages in order, wait until the broker has them, and return where each stands.

    Those of a partition appear there at once (up to ONCE_BYTES of them): no micro-batch ends among them.
    """
    producer = bus.producer(settings.kafka_bootstrap, linger_ms=60_000, batch_size=ONCE_BYTES)
    try:
        sent = [
            producer.send(bus.TRANSACTIONS, key=each.key, value=each.value, partition=each.partition)
            for each in messages
        ]
        producer.flush(30)
        found = [future.get(30) for future in sent]
    finally:
        producer.close()
    return [Source(each.partition, each.offset) for each in found]


def answers(
    settings: Settings,
    *,
    wanted: Iterable[Source] | None = None,
    seconds: float = ANSWER_SECONDS,
    strict: bool = True,
) -> Answers:
    """Return every answer, once all of `wanted` (None: every offset that `transactions` holds now) have one.

    With `strict` it fails after `seconds` and names what is missing; else it returns what there is.
    """
    wanted = _all_sources(settings) if wanted is None else set(wanted)
    found: dict[Source, list[Answer]] = {}
    deadline = time.monotonic() + seconds
    # kafka-python computes checksums in Python, nine tenths of its reading; what is damaged can't be parsed here.
    consumer = bus.consumer(
        settings.kafka_bootstrap, max_poll_records=5_000, max_partition_fetch_bytes=8 << 20, check_crcs=False
    )
    try:
        parts = _assign(consumer, settings)
        while True:
            read = 0
            for records in consumer.poll(timeout_ms=200).values():
                read += len(records)
                for record in records:
                    at, answer = _answer(record)
                    found.setdefault(at, []).append(answer)
            # All are there, and so are the repeats that were published before this look.
            if not read and wanted.issubset(found) and _at_end(consumer, parts):
                return Answers(found, [])
            if time.monotonic() > deadline:
                missing = sorted(wanted.difference(found))
                assert not strict, f"{len(missing)} of {len(wanted)} without an answer: {missing[:5]}"
                return Answers(found, missing)
    finally:
        consumer.close()


def _all_sources(settings: Settings) -> set[Source]:
    begin = bus.begin_offsets(settings.kafka_bootstrap, bus.TRANSACTIONS)
    end = bus.end_offsets(settings.kafka_bootstrap, bus.TRANSACTIONS)
    return {Source(p, offset) for p, stop in end.items() for offset in range(begin[p], stop)}


def _assign(consumer: Any, settings: Settings) -> Sequence[Any]:
    from kafka import TopicPartition

    parts = [
        TopicPartition(topic, partition)
        for topic in (bus.PREDICTIONS, bus.DLQ)
        for partition in range(bus.partitions(settings.kafka_bootstrap, topic))
    ]
    consumer.assign(parts)
    consumer.seek_to_beginning(*parts)
    return parts


def _at_end(consumer: Any, parts: Sequence[Any]) -> bool:
    ends = consumer.end_offsets(list(parts))
    return all(consumer.position(part) >= ends[part] for part in parts)


def _answer(record: Any) -> tuple[Source, Answer]:
    kind: Literal["prediction", "rejection"] = "prediction" if record.topic == bus.PREDICTIONS else "rejection"
    source = json.loads(record.value)["source"]
    answer = Answer(kind, record.key, record.value, record.timestamp, record.partition, record.offset)
    return Source(source["partition"], source["offset"]), answer
