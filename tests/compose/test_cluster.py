"""The profile `cluster`: both jobs on two workers with the Redis online store; a worker killed under load; parity."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fraud import bus
from tests.compose import answers, engine
from tests.compose.conftest import Stack
from tests.compose.test_stack import produced
from tests.servers import wait_for

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1_800)]

MASTER = "spark://spark:7077"
JOBS = ("stream", "archive")
BACKLOG, RATE = 60_000, 4_000


def submitted(**environment: str) -> None:
    """Bring everything up again with these variables, as the runbook does; only what they change is made anew."""
    words = ("up", "--detach", "--wait", "--wait-timeout", "600")
    engine.run(*("env", *(f"{name}={value}" for name, value in environment.items())), *engine.COMPOSE, *words)


@pytest.fixture(scope="module")
def cluster(stack: Stack) -> Iterator[Stack]:
    """The stack with its jobs on the cluster; afterwards they are where they were."""
    submitted(SPARK_MASTER=MASTER)
    yield stack
    engine.compose("rm", "--stop", "--force", "spark-worker-1", "spark-worker-2", "spark-master")
    engine.run(*engine.FLOWER, "up", "--detach", "--wait", "--wait-timeout", "600")


def master() -> dict[str, Any]:
    found: dict[str, Any] = engine.request(f"http://{engine.address('spark-master', 8081)}/json/")
    return found


def executors() -> dict[str, int]:
    """Return how many cores each application has on the workers."""
    return {each["name"]: each["cores"] for each in master()["activeapps"]}


def test_both_jobs_run_on_two_workers(cluster: Stack) -> None:
    wait_for("two applications have their executors", lambda: sorted(executors().values()) == [2, 2], 120, every=1)
    found = master()
    assert found["aliveworkers"] == 2
    assert [worker["coresused"] for worker in found["workers"] if worker["state"] == "ALIVE"] == [2, 2]
    used = engine.memory()
    cluster.report("cluster_memory_mb", {name: round(each) for name, each in sorted(used.items())})
    cluster.report("cluster_memory_mb_sum", round(sum(used.values())))


def test_nothing_is_lost_when_a_worker_is_killed(cluster: Stack) -> None:
    bootstrap = cluster.settings.kafka_bootstrap
    before = answers.ends(bootstrap)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(produced, cluster, 2_000, 50)
        wait_for("some of it is decided", lambda: answers.ends(bootstrap) != before, 60)
        engine.kill("spark-worker-1")
        time.sleep(10)
        engine.start("spark-worker-1")
        sent = sending.result()
    found = answers.read(bootstrap, before, sent, 240)
    assert not found.missing(sent), f"{len(found.missing(sent))} of {len(sent)} have no answer"
    assert not found.contradictions()
    cluster.report("repeats_after_worker_killed", found.repeats)
    engine.wait_healthy("spark-worker-1", *JOBS)
    wait_for("both have two cores again", lambda: sorted(executors().values()) == [2, 2], 180, every=1)


def test_a_backlog_is_drained_and_its_rate_told(cluster: Stack) -> None:
    bootstrap = cluster.settings.kafka_bootstrap
    engine.compose("stop", "stream", "producer")
    before = answers.ends(bootstrap)
    sent = cluster.command("produce", "--count", str(BACKLOG), "--rate", str(RATE), "--seed", "9", "--users", "3000")
    wanted = answers.places(sent["offsets"])
    engine.compose("start", "stream")

    def answered() -> int:
        now = answers.ends(bootstrap)
        return sum(end - before[place] for place, end in now.items() if place[0] == bus.PREDICTIONS)

    wait_for("the first are decided", lambda: answered() > 1_000, 240, every=0.05)
    first, began = answered(), time.monotonic()
    wait_for("all are decided", lambda: answered() >= BACKLOG, 240, every=0.05)
    cluster.report("cluster_events_per_second", round((answered() - first) / (time.monotonic() - began)))
    found = answers.read(bootstrap, before, wanted, 120)
    assert not found.missing(wanted)
    assert not found.contradictions()
    engine.compose("start", "producer")


def test_parity_holds(cluster: Stack) -> None:
    """Whatever was killed before: every value that was published is what the offline builder says."""
    engine.compose("stop", "producer")
    try:
        said = engine.cli("parity", "--wait", "120", "--json", seconds=900)
    finally:
        engine.compose("start", "producer")
    found = json.loads(said.splitlines()[-1])
    cluster.report("cluster_parity", found)
    assert found["compared"] > BACKLOG
    assert (found["mismatches"], found["compared"] + found["stale"]) == (0, found["rows"]), found
