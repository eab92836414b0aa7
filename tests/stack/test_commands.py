"""`up`, `status`, `doctor` and `down` with the real servers and the real score job."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from fraud import bus
from fraud.s3 import LAKE_BUCKET, s3_client
from fraud.settings import Settings
from fraud.stack import airflow, processes
from fraud.stack.ports import is_open
from tests import servers

pytestmark = pytest.mark.server


def command(settings: Settings, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fraud.cli", *arguments],
        env=servers.environment(settings) | changes,
        cwd=servers.REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def result(settings: Settings, *arguments: str) -> dict[str, Any]:
    done = command(settings, *arguments, "--json")
    assert done.stdout.count("\n") == 1, done.stderr
    return dict(json.loads(done.stdout))


def problems(settings: Settings) -> list[str]:
    found = result(settings, "doctor")["findings"]
    return [f"{each['topic']}: {each['message']}" for each in found if each["level"] != "ok"]


def stopped(settings: Settings) -> None:
    left = processes.of_home(settings.home.absolute())
    processes.end(left, 0)
    assert not left, f"left behind: {[processes.describe(each) for each in left]}"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    found = servers.settings(tmp_path_factory.mktemp("up"))
    yield found
    command(found, "down")
    stopped(found)


@pytest.fixture(scope="module")
def up(settings: Settings) -> str:
    done = command(settings, "up")
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_up_says_where_everything_is_and_what_to_do_next(settings: Settings, up: str) -> None:
    jobs = [f"http://127.0.0.1:{port}" for port in (settings.spark_ui_port, settings.archive_ui_port)]
    for address in (*jobs, settings.mlflow_uri, settings.airflow_uri, settings.s3_endpoint):
        assert address in up
    assert settings.kafka_bootstrap in up
    assert str(settings.logs) in up
    assert "fraud-detect train" in up
    assert f"login admin, password {airflow.password(settings)}" in up


def test_the_login_is_the_owners_alone_and_never_in_json(settings: Settings, up: str) -> None:
    password = airflow.password(settings)
    assert password is not None
    kept = airflow.password_file(settings)
    assert kept.stat().st_mode & 0o077 == 0
    assert password in command(settings, "status").stderr
    found = command(settings, "status", "--json").stdout
    assert password not in found
    assert str(kept) in found


def listening(settings: Settings) -> dict[tuple[str, int], str]:
    """Return every address on which a process of the stack listens, with the process."""
    found = {}
    for process in processes.of_home(settings.home.absolute()):
        with suppress(psutil.NoSuchProcess):
            for each in process.net_connections("tcp"):
                if each.status == psutil.CONN_LISTEN:
                    found[each.laddr.ip, each.laddr.port] = processes.describe(process)
    return found


def test_everything_listens_on_loopback_only(settings: Settings, up: str) -> None:
    found = listening(settings)
    ports = {port for _, port in found}
    assert {settings.port(name) for name in ("kafka_bootstrap", "mlflow_uri", "s3_endpoint", "airflow_uri")} <= ports
    assert {settings.spark_ui_port, settings.archive_ui_port} <= ports
    # A JVM's dual-stack socket shows 127.0.0.1 as an IPv4 address mapped into IPv6.
    loopback = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert {address: who for address, who in found.items() if address[0] not in loopback} == {}


def test_a_second_up_changes_nothing(settings: Settings, up: str) -> None:
    before = {each["name"]: each["pid"] for each in result(settings, "status")["programs"]}
    done = command(settings, "up")
    assert done.returncode == 0
    assert f"already up, in {settings.home}" in done.stderr
    now = result(settings, "status")
    assert now["up"]
    assert {each["name"]: each["pid"] for each in now["programs"]} == before
    refused = command(settings, "up", FRAUD_TOPIC_PARTITIONS="3")
    assert refused.returncode == 1
    assert "FRAUD_TOPIC_PARTITIONS=2 (now 3)" in refused.stderr


def test_the_jobs_stop_alone_and_come_back(settings: Settings, up: str) -> None:
    """So that `rebuild` has Kafka and S3, and the store to itself."""
    assert command(settings, "down", "--jobs", "--wipe").returncode == 2
    beside = command(settings, "rebuild", "--yes")
    assert "is held by pid" in beside.stderr
    assert result(settings, "down", "--jobs")["stopped"] == ["score", "archive"]
    states = {each["name"]: each["state"] for each in result(settings, "status")["programs"]}
    assert {name for name, state in states.items() if state == "stopped"} == {"score", "archive"}
    assert result(settings, "down", "--jobs")["stopped"] == []
    nothing = command(settings, "rebuild", "--yes")
    assert nothing.returncode == 1
    assert "holds anything to make a store from" in nothing.stderr
    assert command(settings, "up").returncode == 0
    states = {each["name"]: each["state"] for each in result(settings, "status")["programs"]}
    assert set(states.values()) == {"running"}


def test_beside_it_nobody_starts_on_the_same_ports(settings: Settings, up: str, tmp_path: Path) -> None:
    refused = command(settings, "up", FRAUD_HOME=str(tmp_path))
    assert refused.returncode == 1
    assert f"taken by `fraud-detect up` in {settings.home}" in refused.stderr
    assert "FRAUD_KAFKA_BOOTSTRAP" in refused.stderr


def test_doctor_finds_what_was_broken(settings: Settings, up: str) -> None:
    assert [each.split(",")[0] for each in problems(settings)] == ["mlflow: no model is in Production"]
    from kafka.admin import ConfigResource

    with bus.admin(settings.kafka_bootstrap) as client:
        changed = ConfigResource("TOPIC", bus.PREDICTIONS, configs={"message.timestamp.type": "CreateTime"})
        client.alter_configs([changed])
        client.delete_topics([bus.DLQ])
        with bus.producer(settings.kafka_bootstrap) as sender:
            sender.send(bus.TRANSACTIONS, b"{}", b"c1").get(20)
        servers.wait_for("the topic is gone", lambda: bus.DLQ not in client.list_topics())
    s3_client(settings).delete_bucket(Bucket=LAKE_BUCKET)
    done = command(settings, "doctor")
    assert done.returncode == 1
    for words in (
        "topic transactions_dlq is missing; `fraud-detect up` makes it",
        "topic fraud_predictions has message.timestamp.type=CreateTime, not LogAppendTime",
        "the bucket lake is missing",
        "1 transactions are waiting to be decided",
    ):
        assert words in done.stderr


def test_what_up_makes_again_is_no_problem_any_more(settings: Settings, up: str) -> None:
    assert command(settings, "up").returncode == 0
    left = problems(settings)
    assert not any("is missing" in each for each in left), left


def pids(settings: Settings) -> dict[str, int]:
    """Return the servers' processes; not the jobs': the archive job ends where its lake is deleted, as above."""
    programs = {each["name"]: each["pid"] for each in result(settings, "status")["programs"]}
    return {name: programs[name] for name in ("s3", "kafka", "mlflow") if programs[name] is not None}


def test_down_keeps_the_data_and_wipe_asks_who_uses_them(settings: Settings, up: str) -> None:
    data, before = settings.data, pids(settings)
    assert len(before) == 3
    unsure = command(settings, "down", "--wipe")
    assert unsure.returncode == 1
    assert pids(settings) == before
    with (
        (data / "store" / "histories" / "data.mdb").open() as held,
        subprocess.Popen(["sleep", "600"], stdin=held) as stranger,
    ):
        try:
            refused = command(settings, "down", "--wipe", "--yes")
            assert refused.returncode == 1
            assert "and `up` didn't start it" in refused.stderr
            assert pids(settings) == before
        finally:
            stranger.kill()
    begun = time.monotonic()
    assert result(settings, "down") == {"home": str(settings.home), "stopped": True, "removed": []}
    assert time.monotonic() - begun < 60
    stopped(settings)
    assert not is_open(settings.port("kafka_bootstrap"))
    assert (data / "kafka").is_dir()
    assert not result(settings, "status")["up"]
    assert "ports: nothing listens on" in problems(settings)[1]
    assert result(settings, "down", "--wipe", "--yes")["removed"][0] == str(data)
    assert not data.exists()
    assert (settings.home / "cache").exists()


def test_ctrl_c_while_the_servers_start_leaves_none(tmp_path: Path) -> None:
    settings = servers.settings(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-m", "fraud.cli", "up"],
        env=servers.environment(settings),
        cwd=servers.REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as starting:
        assert starting.stderr is not None
        for line in starting.stderr:
            if line.startswith("starting mlflow"):
                break
        for _ in range(2):
            os.killpg(starting.pid, signal.SIGINT)  # as the terminal does
        rest = starting.stderr.read()
    assert starting.returncode == 130, rest
    stopped(settings)
    assert not (settings.home / "stack").exists()


@pytest.mark.parametrize("name", ["up", "down", "status", "doctor"])
def test_help_reads_well(name: str, settings: Settings) -> None:
    done = command(settings, name, "--help")
    assert done.returncode == 0
    assert "--json" in done.stdout
