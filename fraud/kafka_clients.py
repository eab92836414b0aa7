"""Kafka's clients with our defaults, their errors translated.

Delivery: producers wait for all replicas and are idempotent; consumers start at the beginning where
they have no offset. Every partitioner is murmur2, Java's: confluent-kafka's default would send half
of the users to another partition.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fraud.errors import ServiceError
from fraud.settings import PREFIX

if TYPE_CHECKING:
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

MIB = 1 << 20
# `transactions` takes 6 MiB, so that a 5 MB mistake is answered in the DLQ and not at the sender's.
LARGEST_MESSAGE = 6 * MIB
TIMEOUT_MS = 20_000
# How long to wait for a broker that accepts connections, before saying that it is away.
REACH_SECONDS = 5.0


@contextmanager
def admin(
    bootstrap: str, timeout_ms: int = TIMEOUT_MS, reach_seconds: float = REACH_SECONDS
) -> "Iterator[KafkaAdminClient]":
    """Open an admin client; what goes wrong with Kafka inside becomes a ServiceError."""
    from kafka import KafkaAdminClient

    _reach(bootstrap, reach_seconds)
    with translated(bootstrap):
        client = KafkaAdminClient(
            bootstrap_servers=bootstrap,
            client_id="fraud-admin",
            request_timeout_ms=timeout_ms,
            bootstrap_timeout_ms=timeout_ms,
        )
        try:
            yield client
        finally:
            client.close()


def producer(bootstrap: str, **options: Any) -> "KafkaProducer":
    """Open a producer with our defaults; it waits for all replicas and repeats nothing.

    Raises:
        ServiceError: no broker answers.
    """
    from kafka import KafkaProducer

    defaults = {
        "client_id": "fraud-producer",
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": 5,
        "batch_size": 128 * 1024,
        "max_request_size": LARGEST_MESSAGE,
    }
    _reach(bootstrap)
    with translated(bootstrap):
        return KafkaProducer(bootstrap_servers=bootstrap, **{**defaults, **options})


def consumer(bootstrap: str, *topic: str, **options: Any) -> "KafkaConsumer":
    """Open a consumer with our defaults: from the beginning, committing nothing by itself.

    Raises:
        ServiceError: no broker answers.
    """
    from kafka import KafkaConsumer

    defaults = {"client_id": "fraud-consumer", "auto_offset_reset": "earliest", "enable_auto_commit": False}
    _reach(bootstrap)
    with translated(bootstrap):
        return KafkaConsumer(*topic, bootstrap_servers=bootstrap, **{**defaults, **options})


@contextmanager
def translated(bootstrap: str) -> Iterator[None]:
    from kafka.errors import KafkaError

    try:
        yield
    except (KafkaError, OSError) as exc:
        raise _away(bootstrap, f"{type(exc).__name__}: {exc}") from exc


def _away(bootstrap: str, why: str) -> ServiceError:
    return ServiceError(
        f"Kafka at {bootstrap} fails ({why}); is it up (`fraud-detect status`), and does "
        f"{PREFIX}KAFKA_BOOTSTRAP name it?"
    )


def _reach(bootstrap: str, seconds: float = REACH_SECONDS) -> None:
    """Wait until one of the brokers accepts a connection.

    kafka-python, when nobody does, waits half a minute and leaves its sockets open.
    """
    deadline = time.monotonic() + seconds
    while True:
        why = "no address"
        for address in bootstrap.split(","):
            host, _, port = address.strip().rpartition(":")
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
            except (OSError, ValueError) as exc:
                why = str(exc)
            else:
                return
        if time.monotonic() >= deadline:
            raise _away(bootstrap, why)
        time.sleep(0.2)
