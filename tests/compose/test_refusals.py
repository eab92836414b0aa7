"""What goes wrong before or beside the stack, and whether what is said then helps."""

import json
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.compose import engine
from tests.compose.conftest import Stack
from tests.servers import REPOSITORY, wait_for

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

PROBE = "fraud-probe"  # a project of its own: nothing of the stack is touched


def refused(*words: str, **variables: str) -> str:
    """Run a command that has to fail; return what it says."""
    done = subprocess.run(
        words, cwd=REPOSITORY, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0, done.stdout
    return done.stdout + done.stderr


def findings(*variables: str) -> list[str]:
    """Return the problems that `doctor` finds inside the stack with other variables."""
    changed = [word for variable in variables for word in ("-e", variable)]
    words = ("docker", "compose", "run", "--rm", "--no-deps", "-T", *changed, "doctor", "doctor", "--json")
    found = json.loads(engine.run(*words, check=False).splitlines()[-1])
    return [each["message"] for each in found["findings"] if each["level"] == "problem"]


@pytest.fixture(autouse=True)
def _engine() -> None:
    engine.require()


def test_without_secrets_nothing_starts_and_the_remedy_is_named() -> None:
    unset = {name: "" for name in os.environ if name.endswith(("_PASSWORD", "_SECRET", "_KEY"))}
    said = refused("docker", "compose", "--env-file", ".env.example", "up", "--detach", **unset)
    assert "is empty, run `make env` first" in said


def test_a_port_that_is_taken_is_named(stack: Stack) -> None:
    with socket.socket() as holder, socket.socket() as free:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        free.bind(("127.0.0.1", 0))
        taken, console = (str(each.getsockname()[1]) for each in (holder, free))
        free.close()
        try:
            said = refused(
                *("docker", "compose", "--project-name", PROBE, "up", "--detach", "minio"),
                S3_PORT=taken,
                S3_CONSOLE_PORT=console,
            )
        finally:
            engine.run("docker", "compose", "--project-name", PROBE, "down", "--volumes")
    assert taken in said
    assert "address already in use" in said or "already allocated" in said


@contextmanager
def probe(service: str, how: Mapping[str, object], **variables: str) -> Iterator[tuple[list[str], list[str]]]:
    """Lend the words for Compose with a project of its own, and those that also change a service of it."""
    words = ["env", *(f"{name}={value}" for name, value in variables.items())]
    words += ["docker", "compose", "--project-name", PROBE]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as override:
        json.dump({"services": {service: how}}, override)
        override.flush()
        try:
            yield words, [*words, "--file", "docker-compose.yml", "--file", override.name]
        finally:
            engine.run(*words, "down", "--volumes")


def changed(service: str, how: Mapping[str, object], **variables: str) -> str:
    """Start a service of a project of its own, then again with changes; return its log of some seconds later."""
    with probe(service, how, **variables) as (words, with_it):
        engine.run(*words, "up", "--detach", "--wait", service)
        engine.run(*with_it, "up", "--detach", service)

        def restarted() -> bool:
            asked = ("docker", "inspect", "--format", "{{.RestartCount}}", f"{PROBE}-{service}-1")
            return int(engine.run(*asked)) > 0

        wait_for(f"{service} ends and is started again", restarted, 120, every=1)
        state = engine.run("docker", "inspect", "--format", "{{json .State}}", f"{PROBE}-{service}-1")
        return state + engine.run(*with_it, "logs", service)


def test_a_volume_of_another_cluster_is_refused_by_kafka_and_named(stack: Stack) -> None:
    other = "b3RoZXItY2x1c3Rlci1pZA"
    said = changed("kafka", {"environment": {"CLUSTER_ID": other}}, KAFKA_PORT="0")
    assert re.search(rf"Invalid cluster\.id in: .*Expected {other}, but read", said), said[-2_000:]


def test_too_little_memory_ends_as_the_runbook_says(stack: Stack) -> None:
    tight = {"deploy": {"resources": {"limits": {"memory": "48M"}}}}
    said = changed("kafka", tight, KAFKA_PORT="0")
    assert '"OOMKilled":true' in said or '"ExitCode":137' in said, said[:2_000]


def test_a_wrong_key_of_s3_is_found_by_doctor(stack: Stack) -> None:
    assert any("FRAUD_S3_SECRET_KEY" in message for message in findings("FRAUD_S3_SECRET_KEY=wrong"))


def test_another_number_of_partitions_is_found_by_doctor(stack: Stack) -> None:
    assert any("8 partitions" in message for message in findings("FRAUD_TOPIC_PARTITIONS=4"))


def test_a_postgres_that_is_away_for_a_minute_is_waited_for(stack: Stack) -> None:
    name = engine.container("postgres")
    engine.run("docker", "pause", name)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert engine.states()["stream"]["State"] == "running", "scoring needs no Postgres"
            time.sleep(5)
    finally:
        engine.run("docker", "unpause", name)
    engine.wait_healthy("postgres", "mlflow", "api-server", "scheduler", "dag-processor", "stream")


def test_a_postgres_that_comes_a_minute_late_is_waited_for(stack: Stack) -> None:
    late = {"entrypoint": ["sh", "-c", 'sleep 60; exec docker-entrypoint.sh "$@"', "--"]}
    began = time.monotonic()
    with probe("postgres", late, S3_PORT="0", S3_CONSOLE_PORT="0", MLFLOW_PORT="0") as (_, with_it):
        engine.run(*with_it, "up", "--detach", "--wait", "mlflow")
    assert time.monotonic() - began > 60
