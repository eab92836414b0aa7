"""The embedded servers start from their descriptions and serve."""

import pytest

from fraud import bus
from fraud.s3 import BUCKETS, s3_client
from fraud.settings import Settings
from tests import servers

pytestmark = pytest.mark.server


def test_kafka_serves_the_platforms_topics(kafka: servers.Server, stack_settings: Settings) -> None:
    assert bus.topic_problems(stack_settings) == []
    first = bus.describe(stack_settings.kafka_bootstrap, bus.TRANSACTIONS)
    servers.fresh_topics(stack_settings)
    second = bus.describe(stack_settings.kafka_bootstrap, bus.TRANSACTIONS)
    assert second.id != first.id
    assert second.partitions == stack_settings.topic_partitions


def test_s3_holds_both_buckets(s3: servers.Server, stack_settings: Settings) -> None:
    found = {bucket["Name"] for bucket in s3_client(stack_settings).list_buckets()["Buckets"]}
    assert found >= set(BUCKETS)


def test_mlflow_answers(mlflow_server: servers.Server) -> None:
    assert mlflow_server.program.ready()
