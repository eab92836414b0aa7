"""Kafka as this platform uses it: the topics and their settings, their ids and offsets; the clients beside."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fraud.errors import ServiceError, StateError
from fraud.kafka_clients import LARGEST_MESSAGE, MIB, TIMEOUT_MS, admin, consumer, producer, translated
from fraud.settings import PREFIX, Settings

if TYPE_CHECKING:
    from kafka import KafkaAdminClient

__all__ = [
    "DLQ",
    "LABELS",
    "LARGEST_ANSWER",
    "LARGEST_MESSAGE",
    "PREDICTIONS",
    "TRANSACTIONS",
    "Topic",
    "TopicState",
    "admin",
    "begin_offsets",
    "consumer",
    "describe",
    "end_offsets",
    "ensure_topics",
    "is_ready",
    "partition_of",
    "partitions",
    "producer",
    "readable_between",
    "topic_id",
    "topic_problems",
    "topics",
]

TRANSACTIONS = "transactions"
LABELS = "transaction_labels"
PREDICTIONS = "fraud_predictions"
DLQ = "transactions_dlq"

# The largest answer: a rejection with 64 KiB of original in base64 and a key of 1 KiB.
LARGEST_ANSWER = 2 * MIB
FOREVER = "-1"


@dataclass(frozen=True)
class Topic:
    """A topic as it should be."""

    name: str
    partitions: int
    configs: Mapping[str, str]


@dataclass(frozen=True)
class TopicState:
    """A topic as it is: its id (a UUID's text) and partitions."""

    name: str
    id: str
    partitions: int


def topics(settings: Settings) -> list[Topic]:
    """Return the four topics; all have as many partitions, so that a user's are found by one number.

    >>> [topic.name for topic in topics(Settings.load({}))]
    ['transactions', 'transaction_labels', 'fraud_predictions', 'transactions_dlq']
    """

    def topic(name: str, largest: int, hours: int | None, megabytes: int | None) -> Topic:
        configs = {
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(largest),
            "retention.ms": FOREVER if hours is None else str(hours * 3_600_000),
            "retention.bytes": FOREVER if megabytes is None else str(megabytes * MIB),
        }
        return Topic(name, settings.topic_partitions, configs)

    return [
        topic(TRANSACTIONS, LARGEST_MESSAGE, None, None),
        topic(LABELS, LARGEST_ANSWER, None, None),
        topic(
            PREDICTIONS,
            LARGEST_ANSWER,
            settings.predictions_retention_hours,
            settings.predictions_retention_mb,
        ),
        topic(DLQ, LARGEST_ANSWER, settings.dlq_retention_hours, settings.dlq_retention_mb),
    ]


def partition_of(user_id: str, n: int) -> int:
    """Return the partition of a user among `n`: Kafka's murmur2 of the UTF-8 key.

    >>> [partition_of(user, 8) for user in ("c1", "c2", "c3")]
    [0, 0, 0]
    """
    from kafka.partitioner.default import murmur2

    hashed: int = murmur2(user_id.encode())
    return (hashed & 0x7FFFFFFF) % n


def ensure_topics(settings: Settings) -> list[str]:
    """Create what is missing and return, a sentence each, what differs; nothing existing is changed.

    Raises:
        ServiceError: Kafka is away or refused.
    """
    from kafka.errors import TopicAlreadyExistsError

    with admin(settings.kafka_bootstrap) as client:
        present = set(client.list_topics())
        for topic in topics(settings):
            if topic.name in present:
                continue
            wanted = {
                "num_partitions": topic.partitions,
                "replication_factor": -1,
                "configs": dict(topic.configs),
            }
            try:
                client.create_topics({topic.name: wanted}, wait_for_metadata=True)
            except TopicAlreadyExistsError:
                client.wait_for_topics([topic.name])
        return _differences(client, topics(settings))


def topic_problems(settings: Settings) -> list[str]:
    """Return, a sentence each, which topics are missing or other than they should be.

    Raises:
        ServiceError: Kafka is away.
    """
    with admin(settings.kafka_bootstrap) as client:
        present = set(client.list_topics())
        wanted = topics(settings)
        missing = [
            f"topic {each.name} is missing; `fraud-detect up` makes it" for each in wanted if each.name not in present
        ]
        return missing + _differences(client, [each for each in wanted if each.name in present])


def _differences(client: "KafkaAdminClient", wanted: list[Topic]) -> list[str]:
    from kafka.admin import ConfigResource

    found = []
    names = [topic.name for topic in wanted]
    if not names:
        return []
    counts = {each["name"]: len(each["partitions"]) for each in client.describe_topics(names)}
    configs = client.describe_configs([ConfigResource("TOPIC", name) for name in names], config_filter="all")
    for topic in wanted:
        if counts[topic.name] != topic.partitions:
            found.append(
                f"topic {topic.name} has {counts[topic.name]} partitions where {PREFIX}TOPIC_PARTITIONS says "
                f"{topic.partitions}; users' histories belong to partitions: set it to {counts[topic.name]}, "
                f"or start anew with `fraud-detect down --wipe`"
            )
        actual = configs["topic"][topic.name]
        found += [
            f"topic {topic.name} has {key}={actual[key]['value']}, not {value}; change one of the two"
            for key, value in topic.configs.items()
            if actual[key]["value"] != value
        ]
    return found


def describe(bootstrap: str, topic: str) -> TopicState:
    """Return a topic's id and number of partitions.

    Raises:
        StateError: there is no such topic.
        ServiceError: Kafka is away, or can't describe it now.
    """
    with admin(bootstrap) as client:
        return _describe(client, bootstrap, topic)


def _describe(client: "KafkaAdminClient", bootstrap: str, topic: str) -> TopicState:
    from kafka.errors import UnknownTopicOrPartitionError, for_code

    found = client.describe_topics([topic])[0]
    code = found["error_code"]
    if code == UnknownTopicOrPartitionError.errno:
        raise StateError(f"Kafka at {bootstrap} has no topic {topic!r}; `fraud-detect up` makes the platform's")
    if code != 0:  # a broker that has just started: no leader yet
        raise ServiceError(
            f"Kafka at {bootstrap} can't describe the topic {topic!r} now ({for_code(code).__name__}); "
            "try again, and look into the broker's log if it stays"
        )
    return TopicState(topic, str(found["topic_id"]), len(found["partitions"]))


def topic_id(bootstrap: str, topic: str) -> str:
    """Return a topic's id: another one after it was deleted and made again. Raises as `describe`."""
    return describe(bootstrap, topic).id


def partitions(bootstrap: str, topic: str) -> int:
    """Return a topic's number of partitions. Raises as `describe`."""
    return describe(bootstrap, topic).partitions


def begin_offsets(bootstrap: str, topic: str) -> dict[int, int]:
    """Return each partition's first offset. Raises as `describe`."""
    from kafka.admin import OffsetSpec

    return _offsets(bootstrap, topic, OffsetSpec.EARLIEST)


def end_offsets(bootstrap: str, topic: str) -> dict[int, int]:
    """Return the offset after each partition's last record. Raises as `describe`."""
    from kafka.admin import OffsetSpec

    return _offsets(bootstrap, topic, OffsetSpec.LATEST)


def _offsets(bootstrap: str, topic: str, which: Any) -> dict[int, int]:
    from kafka import TopicPartition

    with admin(bootstrap) as client:
        count = _describe(client, bootstrap, topic).partitions
        found = client.list_partition_offsets({TopicPartition(topic, part): which for part in range(count)})
    return {part.partition: int(state.offset) for part, state in sorted(found.items())}


def readable_between(bootstrap: str, topic: str, partition: int, start: int, end: int) -> int | None:
    """Return the first offset in [start, end) that holds a record for consumers, or None.

    Offsets without one hold control records, were deleted by retention or compacted away.

    Raises:
        ServiceError: Kafka is away, or didn't answer in time.
    """
    from kafka import TopicPartition

    if start >= end:
        return None
    part = TopicPartition(topic, partition)
    with consumer(bootstrap, isolation_level="read_committed") as client, translated(bootstrap):
        client.assign([part])
        first = client.beginning_offsets([part])[part]
        last = client.end_offsets([part])[part]
        client.seek(part, min(max(start, first), last))
        for _ in range(TIMEOUT_MS // 200):
            records = client.poll(timeout_ms=200, max_records=1).get(part, [])
            if records:
                return int(records[0].offset) if records[0].offset < end else None
            if client.position(part) >= min(end, last):
                return None
    raise ServiceError(f"Kafka at {bootstrap} didn't say what {topic}-{partition} holds from offset {start}")


def is_ready(bootstrap: str) -> bool:
    """Tell whether a broker answers there."""
    try:
        with admin(bootstrap, timeout_ms=2_000, reach_seconds=0) as client:
            client.list_topics()
    except ServiceError:
        return False
    return True
