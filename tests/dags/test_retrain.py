"""Both DAGs with the real commands on real servers: Kafka, S3, MLflow, a lake that `backfill` filled and
the archive job keeps."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fraud import registry
from fraud.settings import Settings
from fraud.stack import airflow, jobs
from fraud.stack.program import Program
from fraud.stack.supervisor import Stack
from tests import servers
from tests.dags import killed_once, rig

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]

DAYS, AS_OF, LATER = 45, "2026-02-14T03:00:00Z", "2026-02-15T03:00:00Z"
CONF = {"as_of": AS_OF, "seed": 1, "candidates": 2}
COMMANDS = ("wait_for_archive", "build_dataset", "check_dataset", "train", "judge", "promote_or_keep")


@dataclass(frozen=True)
class Past:
    """The servers with a past in the lake, and an Airflow's database."""

    settings: Settings
    airflow: dict[str, str]
    folder: Path

    def retrain(self, name: str, command: Path, *confs: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = [{"dag": "retrain", "conf": conf, "environment": {"FRAUD_COMMAND": str(command)}} for conf in confs]
        return rig.run(self.airflow, wanted, self.folder / f"{name}.log")


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    folder = tmp_path_factory.mktemp("retrain")
    settings = servers.settings(folder, max_age_days=None, min_judged_frauds=30)
    # Servers of its own: who is champion must be nobody else's business.
    with servers.running_kafka(settings), servers.running_s3(settings), servers.running_mlflow(settings):
        past = filled(settings, folder)
        with servers.running(jobs.archive(settings), folder):
            yield past


def filled(settings: Settings, folder: Path) -> Past:
    """Simulate a past, load it into store and lake, and make an Airflow's database."""
    simulated = folder / "simulated"
    size = ("--days", str(DAYS), "--users", "800", "--merchants", "200", "--seed", "3")
    command(settings, "simulate", *size, "--out", str(simulated))
    command(settings, "backfill", str(simulated))
    return Past(settings, rig.database(folder / "airflow") | servers.environment(settings), folder)


def command(settings: Settings, *words: str) -> dict[str, Any]:
    """Run a command as a person would, and return its result."""
    done = subprocess.run(
        [killed_once.REAL, *words, "--json"],
        env=servers.environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def versions(settings: Settings) -> set[str]:
    return {version.version for version, _ in registry.versions(settings)}


@pytest.fixture(scope="module")
def killed(past: Past) -> tuple[set[str], dict[str, Any]]:
    """A run each of whose commands is killed once, and the versions that were registered before it."""
    before = versions(past.settings)
    [run] = past.retrain("killed", killed_once.install(past.folder), CONF)
    return before, run


def test_each_command_killed_once_is_done_once(past: Past, killed: tuple[set[str], dict[str, Any]]) -> None:
    before, run = killed
    assert run["state"] == "success"
    assert {name: run["tasks"][name]["tries"] for name in COMMANDS} == dict.fromkeys(COMMANDS, 2)
    # One version was registered, one promotion made, one piece of news told.
    version = run["tasks"]["train"]["result"]["version"]
    assert versions(past.settings) - before == {version}
    assert registry.look(past.settings).production == version
    assert run["tasks"]["promote_or_keep"]["result"]["outcome"] == "promoted"
    assert [event["extra"]["version"] for event in run["events"]] == [version]


def test_the_same_again_finds_what_there_is(past: Past, killed: tuple[set[str], dict[str, Any]]) -> None:
    before = versions(past.settings)
    [again] = past.retrain("again", killed_once.REAL, CONF)
    assert again["state"] == "success"
    first = killed[1]["tasks"]
    for name, keys in (("build_dataset", ("uri", "sha256", "rows")), ("train", ("version", "run_id"))):
        for key in keys:
            assert again["tasks"][name]["result"][key] == first[name]["result"][key]
    assert versions(past.settings) == before


@pytest.fixture(scope="module")
def scheduler(past: Past) -> Iterator[Settings]:
    """Airflow as `up` starts it, beside the session's servers."""

    def parts(settings: Settings, sockets: Path) -> list[Program]:
        return [
            replace(each, needs=[name for name in each.needs if name == airflow.NAME])
            for each in airflow.programs(settings)
        ]

    stack = Stack(past.settings, "up", parts)
    stack.start(lambda _: None)
    yield past.settings
    stack.stop(lambda _: None)


def test_two_runs_at_once_by_a_real_scheduler_end_with_one_champion(past: Past, scheduler: Settings) -> None:
    before = versions(scheduler)
    confs = [{**CONF, "as_of": LATER, "seed": seed, "candidates": 0} for seed in (2, 3)]
    runs = [airflow.trigger(scheduler, "retrain", conf) for conf in confs]
    assert [airflow.wait(scheduler, "retrain", run, 240) for run in runs] == ["success", "success"]
    assert len(versions(scheduler) - before) == 2
    look = registry.look(scheduler)
    assert look.production is not None
    assert [version.version for version, _ in registry.versions(scheduler) if version.stage == "Production"] == [
        look.production
    ]


def test_maintenance_leaves_what_is_used(past: Past, killed: tuple[set[str], dict[str, Any]]) -> None:
    variables = {"FRAUD_COMMAND": str(killed_once.REAL)}
    [run] = rig.run(past.airflow, [{"dag": "maintain", "environment": variables}], past.folder / "maintain.log")
    assert run["state"] == "success"
    assert isinstance(run["tasks"]["clean_up"]["result"], dict)
    # The training set's cut still stands: rebuilt from it, it has the same hash.
    again = command(past.settings, "dataset", "--as-of", AS_OF)
    assert again["sha256"] == killed[1]["tasks"]["build_dataset"]["result"]["sha256"]
