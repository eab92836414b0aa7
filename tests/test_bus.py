"""Topics, partitions and limits; those that need it against a real broker."""

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.errors import MessageSizeTooLargeError
from kafka.partitioner import DefaultPartitioner

from fraud import bus, kafka_clients
from fraud.bus import partition_of
from fraud.errors import FraudError, ServiceError, StateError
from fraud.settings import Settings
from fraud.stack.ports import free_ports
from tests import servers


class Cluster:
    """What a client's partitioner asks of a cluster: one topic's partitions."""

    def __init__(self, count: int) -> None:
        self.count = count

    def topics(self) -> set[str]:
        return {"t"}

    def partitions_for_topic(self, _: str) -> set[int]:
        return set(range(self.count))

    def available_partitions_for_topic(self, _: str) -> set[int]:
        return {0}  # a key's partition doesn't depend on who is there


@given(st.text(min_size=1, max_size=64), st.integers(1, 64))
def test_a_user_has_the_partition_that_kafka_python_gives(user: str, count: int) -> None:
    key = user.encode()
    assert partition_of(user, count) == DefaultPartitioner().partition("t", user, key, b"", b"", Cluster(count))


@pytest.mark.parametrize(
    ("user", "expected"),
    # Murmur2 as Java's client computes it: org.apache.kafka.common.utils.UtilsTest.testMurmur2.
    [("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536)],
)
def test_a_user_has_the_partition_that_java_gives(user: str, expected: int) -> None:
    for count in (1, 2, 7, 8, 1_000):
        assert partition_of(user, count) == (expected & 0x7FFFFFFF) % count


def test_users_spread_over_the_partitions() -> None:
    counts = [0] * 8
    for i in range(8_000):
        counts[partition_of(f"u{i:08}", 8)] += 1
    assert min(counts) > 850


def test_topics_are_as_the_contract_says() -> None:
    settings = Settings.load({}, topic_partitions=3, dlq_retention_hours=2, dlq_retention_mb=5)
    topics = {topic.name: topic for topic in bus.topics(settings)}
    assert list(topics) == ["transactions", "transaction_labels", "fraud_predictions", "transactions_dlq"]
    for topic in topics.values():
        assert topic.partitions == 3
        assert topic.configs["message.timestamp.type"] == "LogAppendTime"
        assert "max.message.bytes" in topic.configs
    assert topics["transactions"].configs["max.message.bytes"] == str(6 * 1024 * 1024)
    for kept in ("transactions", "transaction_labels"):
        assert topics[kept].configs["retention.ms"] == topics[kept].configs["retention.bytes"] == "-1"
    assert topics["transactions_dlq"].configs["retention.ms"] == str(2 * 3_600_000)
    assert topics["transactions_dlq"].configs["retention.bytes"] == str(5 * 1024 * 1024)
    defaults = Settings.load({})
    assert topics["fraud_predictions"].configs["retention.ms"] == str(defaults.predictions_retention_hours * 3_600_000)


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("address", ["127.0.0.1:{free}", "nonsense", "127.0.0.1:port", "[::1]:{free}"])
def test_a_broker_that_is_away_is_named_with_its_setting(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_clients, "REACH_SECONDS", 0.0)
    bootstrap = address.format(free=free_ports(1)[0])
    for ask in (bus.producer, bus.consumer):
        with pytest.raises(ServiceError, match="FRAUD_KAFKA_BOOTSTRAP") as caught:
            monkeypatch.setattr(kafka_clients._reach, "__defaults__", (0.0,))
            ask(bootstrap)
        assert bootstrap in str(caught.value)
    assert not bus.is_ready(bootstrap)


def test_a_port_of_somebody_else_is_no_broker() -> None:
    with silent_port() as port:
        assert not bus.is_ready(f"127.0.0.1:{port}")


def value_of_batch(size: int, key: bytes) -> bytes:
    """Return a value whose record batch, alone and uncompressed, has exactly so many bytes.

    Format (Kafka protocol, message format v2): 61 bytes of batch, then the record: its length, attributes,
    two deltas, key and value with their lengths, and the number of headers; lengths are zigzag varints.
    """

    def varint(number: int) -> int:
        return max(1, -(-(number * 2).bit_length() // 7))

    for length in range(size - 90, size):
        record = 1 + 1 + 1 + varint(len(key)) + len(key) + varint(length) + length + 1
        if 61 + varint(record) + record == size:
            return b"x" * length
    raise AssertionError(f"no value makes a batch of {size} bytes")


@contextmanager
def twin(settings: Settings, name: str) -> Iterator[str]:
    """A topic with the settings of one of ours, so that no other test meets what is written here."""
    topic = next(each for each in bus.topics(settings) if each.name == name)
    wanted = {"num_partitions": topic.partitions, "replication_factor": -1, "configs": dict(topic.configs)}
    with bus.admin(settings.kafka_bootstrap) as client:
        client.create_topics({f"twin-of-{name}": wanted}, wait_for_metadata=True)
        try:
            yield f"twin-of-{name}"
        finally:
            client.delete_topics([f"twin-of-{name}"])


@pytest.mark.server
@pytest.mark.parametrize("name", [bus.TRANSACTIONS, bus.PREDICTIONS, bus.DLQ])
def test_the_broker_takes_the_largest_message_and_not_a_byte_more(
    name: str, kafka: servers.Server, stack_settings: Settings
) -> None:
    limit = bus.LARGEST_MESSAGE if name == bus.TRANSACTIONS else bus.LARGEST_ANSWER
    options = {"max_request_size": 2 * limit, "enable_idempotence": False, "linger_ms": 0}
    producer = bus.producer(stack_settings.kafka_bootstrap, **options)
    try:
        with twin(stack_settings, name) as topic:
            for size in (limit - 1, limit):
                sent = producer.send(topic, key=b"u1", value=value_of_batch(size, b"u1"), partition=0)
                assert sent.get(timeout=30).offset >= 0
            with pytest.raises(MessageSizeTooLargeError):
                producer.send(topic, key=b"u1", value=value_of_batch(limit + 1, b"u1"), partition=0).get(timeout=30)
    finally:
        producer.close()


@pytest.mark.server
def test_our_producer_sends_users_where_we_say(kafka: servers.Server, stack_settings: Settings) -> None:
    producer = bus.producer(stack_settings.kafka_bootstrap)
    users = [f"u{random.Random(1).randrange(10**8)}", "c1", "ü", "😀" * 16, "x" * 64, "21"]
    try:
        with twin(stack_settings, bus.TRANSACTIONS) as topic:
            sent = {user: producer.send(topic, key=user.encode(), value=b"{}") for user in users}
            for user, future in sent.items():
                assert future.get(timeout=30).partition == partition_of(user, stack_settings.topic_partitions)
    finally:
        producer.close()


@pytest.mark.server
def test_offsets_are_those_of_the_topic(kafka: servers.Server, stack_settings: Settings) -> None:
    bootstrap = stack_settings.kafka_bootstrap
    producer = bus.producer(bootstrap)
    try:
        with twin(stack_settings, bus.LABELS) as topic:
            assert bus.begin_offsets(bootstrap, topic) == bus.end_offsets(bootstrap, topic) == {0: 0, 1: 0}
            for _ in range(3):
                producer.send(topic, key=b"k", value=b"{}", partition=1).get(timeout=30)
            assert bus.begin_offsets(bootstrap, topic) == {0: 0, 1: 0}
            assert bus.end_offsets(bootstrap, topic) == {0: 0, 1: 3}
            assert bus.readable_between(bootstrap, topic, 1, 0, 3) == 0
            assert bus.readable_between(bootstrap, topic, 1, 2, 3) == 2
            assert bus.readable_between(bootstrap, topic, 1, 3, 9) is None
            assert bus.readable_between(bootstrap, topic, 1, 1, 1) is None
    finally:
        producer.close()


@pytest.mark.server
def test_what_differs_is_said_and_nothing_is_changed(kafka: servers.Server, stack_settings: Settings) -> None:
    other = stack_settings.model_copy(update={"topic_partitions": 3, "dlq_retention_hours": 1})
    for problems in (bus.topic_problems(other), bus.ensure_topics(other)):
        assert len([p for p in problems if "has 2 partitions where FRAUD_TOPIC_PARTITIONS says 3" in p]) == 4
        assert any("transactions_dlq has retention.ms=604800000, not 3600000" in problem for problem in problems)
        assert len(problems) == 5
    assert bus.topic_problems(stack_settings) == []


class Describing:
    """An admin client whose broker answers with an error code: a real one does so for moments only."""

    def __init__(self, code: int) -> None:
        self.code = code

    def describe_topics(self, topics: list[str]) -> list[dict[str, Any]]:
        return [{"error_code": self.code, "topic_id": "id-1", "partitions": [], "name": topic} for topic in topics]


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (3, StateError, "has no topic 't'"),
        (5, ServiceError, "can't describe the topic 't' now .LeaderNotAvailableError"),
        (29, ServiceError, "can't describe the topic 't' now .TopicAuthorizationFailedError"),
    ],
)
def test_only_an_unknown_topic_is_called_absent(code: int, error: type[FraudError], words: str) -> None:
    client: Any = Describing(code)
    with pytest.raises(error, match=words):
        bus._describe(client, "broker:1", "t")


@pytest.mark.server
def test_an_absent_topic_is_named(kafka: servers.Server, stack_settings: Settings) -> None:
    for ask in (bus.describe, bus.topic_id, bus.partitions, bus.begin_offsets, bus.end_offsets):
        with pytest.raises(StateError, match="has no topic 'no_such_topic'"):
            ask(stack_settings.kafka_bootstrap, "no_such_topic")
    assert bus.is_ready(stack_settings.kafka_bootstrap)
