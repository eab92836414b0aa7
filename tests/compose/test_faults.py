"""Containers killed under load: nothing lost, nothing decided twice, and what is started again goes on."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from fraud.stack import airflow
from tests.compose import answers, engine
from tests.compose.conftest import Stack
from tests.compose.test_stack import DAG, produced
from tests.servers import wait_for

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1_800)]

RATE, COUNT = 50, 2_000


def answered_through(stack: Stack, fault: str, back: str | None = None) -> None:
    """Send for 40 s; kill a container in the middle, start it again; everything that was sent is answered."""
    bootstrap = stack.settings.kafka_bootstrap
    before = answers.ends(bootstrap)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(produced, stack, COUNT, RATE)
        wait_for("some of it is sent", lambda: answers.ends(bootstrap) != before, 60)
        engine.kill(fault)
        engine.start(back or fault)
        sent = sending.result()
    found = answers.read(bootstrap, before, sent, 240)
    assert not found.missing(sent), f"{len(found.missing(sent))} of {len(sent)} have no answer"
    assert not found.contradictions()
    stack.report(f"repeats_after_{fault}_killed", found.repeats)
    engine.wait_healthy(fault, "stream", "archive")


@pytest.mark.parametrize("name", ["stream", "online-store", "archive", "minio", "mlflow"])
def test_nothing_is_lost_when_a_container_is_killed(stack: Stack, name: str) -> None:
    answered_through(stack, name)


def test_another_partition_count_in_the_settings_is_warned_about_and_changes_nothing(stack: Stack) -> None:
    """The count that holds is the topic's; one that was changed there is refused (docs/runbook.md, tried)."""
    bootstrap = stack.settings.kafka_bootstrap
    before = answers.ends(bootstrap)
    engine.kill("stream")
    sent = produced(stack, 500)
    up = (*engine.FLOWER, "up", "--detach", "--wait", "stream")
    try:
        engine.run("env", "FRAUD_TOPIC_PARTITIONS=4", *up)
        said = engine.compose("logs", "kafka-init")
        assert "transactions has 8 partitions where FRAUD_TOPIC_PARTITIONS says 4" in said, said
        found = answers.read(bootstrap, before, sent, 240)
        assert not found.missing(sent)
        assert not found.contradictions()
    finally:
        engine.run(*up)


def test_nothing_is_lost_when_the_broker_is_killed(stack: Stack) -> None:
    """What was acknowledged before is answered; who sends meanwhile waits and goes on."""
    bootstrap = stack.settings.kafka_bootstrap
    before = answers.ends(bootstrap)
    sent = produced(stack, 500)
    engine.kill("kafka")
    engine.start("kafka")
    engine.wait_healthy("kafka")
    sent |= produced(stack, 500)
    found = answers.read(bootstrap, before, sent, 240)
    assert not found.missing(sent)
    assert not found.contradictions()
    engine.wait_healthy("stream", "archive", "producer")


def test_a_crash_is_brought_back_by_the_restart_policy(stack: Stack) -> None:
    before = engine.run("docker", "inspect", "--format", "{{.RestartCount}}", engine.container("stream"))
    engine.crash("stream")

    def restarted() -> bool:
        now = engine.run("docker", "inspect", "--format", "{{.RestartCount}}", engine.container("stream"))
        return int(now) > int(before)

    wait_for("stream was restarted", restarted, 60)
    engine.wait_healthy("stream")


def test_a_worker_that_is_killed_in_a_run_costs_a_try(stack: Stack) -> None:
    run = airflow.trigger(stack.settings, DAG, {"candidates": 2, "seed": 1})

    def at_work() -> bool:
        return airflow.tasks(stack.settings, DAG, run).get("build_dataset") == "running"

    wait_for("the worker is at work", at_work, 180, every=0.5)
    engine.kill("worker")
    engine.start("worker")
    assert airflow.wait(stack.settings, DAG, run, 1_200) == "success", airflow.tasks(stack.settings, DAG, run)
