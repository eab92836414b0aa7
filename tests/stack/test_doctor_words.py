"""What `doctor` tells a person to type, beside the embedded servers and under Docker Compose."""

import pytest

from fraud.settings import Settings
from fraud.stack import doctor_words as words
from tests.compose import file

COMPOSE = Settings.load(
    {},
    kafka_bootstrap="kafka:9092",
    s3_endpoint="http://minio:9000",
    store_url="redis://:secret@online-store:6379/0",
)


def test_beside_the_embedded_servers_it_is_up_and_a_file() -> None:
    settings = Settings.load({}, home="/srv/fraud")
    assert words.start(settings, "archive") == "`fraud-detect up`"
    assert words.log(settings, "airflow-scheduler") == "/srv/fraud/logs/airflow-scheduler.log"
    assert words.make_buckets(settings) == "`fraud-detect up`"
    assert "FRAUD_STORE_MAP_MB" in words.enlarge_store(settings)


@pytest.mark.parametrize(("program", "service"), words.SERVICES.items())
def test_under_compose_it_is_a_service_that_there_is(program: str, service: str) -> None:
    assert words.start(COMPOSE, program) == f"`docker compose up -d {service}`"
    assert words.log(COMPOSE, program) == f"`docker compose logs {service}`"
    assert service in file.services()


def test_under_compose_a_store_has_a_server_and_its_secret_is_not_told() -> None:
    assert words.make_buckets(COMPOSE) == "`docker compose up -d minio-init`"
    told = words.enlarge_store(COMPOSE)
    assert "ONLINE_STORE_MEMORY" in told
    assert "secret" not in told
    assert "${ONLINE_STORE_MEMORY:-" in file.FILE.read_text(encoding="utf-8")
