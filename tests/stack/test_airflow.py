"""Airflow's parts, supervised, with a real scheduler: asked by REST, two runs at once, killed, stopped. Commands are
recorded, not run; what they do to a platform is tests/dags/test_retrain.py's.
"""

import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from fraud.errors import ServiceError, StateError
from fraud.settings import Settings
from fraud.stack import airflow, processes
from fraud.stack.airflow.programs import DAG_PROCESSOR, SCHEDULER
from fraud.stack.doctor_loop import airflow as diagnosis
from fraud.stack.program import Program
from fraud.stack.supervisor import Stack
from tests import servers
from tests.dags import recorder, rig
from tests.dags.answers import ANSWERS, URI

pytestmark = pytest.mark.server
MOST_SECONDS = 90


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the commands' words; `archive` waits for the file `go` in it."""
    folder = tmp_path_factory.mktemp("recorded")
    answers = {**ANSWERS, "archive": {"stdout": "{}", "wait": "go"}}
    recorder.install(folder, answers)
    return folder


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, recorded: Path) -> Iterator[Stack]:
    # What quoting must survive: a space, and what a configuration might expand.
    home = tmp_path_factory.mktemp("airflow") / "a home, 100%"
    settings = servers.settings(home)
    variables = {
        "FRAUD_COMMAND": str(recorded / "a command" / "fraud-detect"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(rig.impatient(home / "dags")),
    }

    def parts(settings: Settings, sockets: Path) -> list[Program]:
        """Airflow alone: without the servers that its tasks would need."""
        return [
            replace(
                each,
                needs=[name for name in each.needs if name == airflow.NAME],
                environment={**each.environment, **variables},
            )
            for each in airflow.programs(settings)
        ]

    found = Stack(settings, "up", parts)
    found.start(lambda _: None)
    yield found
    found.stop(lambda _: None)
    left = processes.of_home(found.home)
    processes.end(left, 0)
    assert not left, f"left behind: {[processes.describe(each) for each in left]}"


@pytest.fixture(scope="module")
def settings(stack: Stack) -> Settings:
    return stack._settings


def pid(stack: Stack, name: str) -> int:
    found = next(each.pid for each in stack.status() if each.entry.name == name)
    assert found is not None
    return found


def commands(found: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return those that run a recorded command."""
    return [each for each in found if recorder.__file__ in (servers.unless_gone(each.cmdline) or [])]


def memory(process: psutil.Process) -> int:
    return int(process.memory_full_info().pss)


def ended(settings: Settings, run: str) -> str:
    return airflow.wait(settings, "retrain", run, MOST_SECONDS)


def test_its_parts_are_few_and_modest(stack: Stack) -> None:
    found = stack.processes()
    for process in found:
        for each in servers.unless_gone(partial(process.net_connections, "tcp")) or []:
            assert each.status != psutil.CONN_LISTEN or each.laddr.ip == "127.0.0.1", processes.describe(process)
    megabytes = sum((servers.unless_gone(partial(memory, each)) or 0) for each in found) >> 20
    assert megabytes < 1000, f"{megabytes} MB"


def test_what_is_wrong_is_refused_before_anything_runs(settings: Settings, recorded: Path) -> None:
    for conf, words in (
        ({"as_of": "yesterday"}, "param as_of"),
        ({"as_of": "2026-11-20T03:00:00Z; touch never"}, "param as_of"),
        ({"as_of": "{{ 7 * 7 }}"}, "param as_of"),
        ({"candidates": "many"}, "param candidates"),
        ({"seed": -1}, "param seed"),
    ):
        with pytest.raises(ServiceError, match=rf"refuses POST .*\(400\).*{words}"):
            airflow.trigger(settings, "retrain", conf)
    with pytest.raises(ServiceError, match=r"\(404\).*'nothing' not found"):
        airflow.trigger(settings, "nothing", {})
    assert recorder.calls(recorded) == []


def test_of_two_runs_at_once_one_waits(settings: Settings, recorded: Path) -> None:
    runs = [airflow.trigger(settings, "retrain", {"seed": seed}) for seed in (1, 2)]
    servers.wait_for("a run has begun", lambda: recorder.calls(recorded), MOST_SECONDS)
    time_of_a_look = time.monotonic() + 3  # three of the scheduler's rounds
    while time.monotonic() < time_of_a_look:
        assert sorted(airflow.state(settings, "retrain", run) for run in runs) == ["queued", "running"]
        time.sleep(0.5)
    (recorded / "go").touch()
    assert [ended(settings, run) for run in runs] == ["success", "success"]
    calls = [call["arguments"] for call in recorder.calls(recorded)]
    assert [call[0] for call in calls] == ["archive", "dataset", "dataset", "train", "judge", "promote"] * 2
    seeds = [call[call.index("--seed") + 1] for call in calls if call[0] == "train"]
    assert sorted(seeds) == ["1", "2"]
    assert calls[2] == ["dataset", "--check", URI, "--json"]


def test_its_tasks_have_exactly_these_settings(settings: Settings, recorded: Path) -> None:
    given = recorder.calls(recorded)[0]["environment"]
    assert Settings.load(given) == Settings.load(settings.environment())
    assert given["FRAUD_STACK"] == f"up:{settings.home.absolute()}"


def test_a_part_that_is_killed_comes_back(stack: Stack, settings: Settings) -> None:
    before = {name: pid(stack, name) for name in (airflow.NAME, SCHEDULER, DAG_PROCESSOR)}
    for each in before.values():
        os.kill(each, signal.SIGKILL)
    servers.wait_for(
        "all parts are back",
        lambda: all(each.state == "running" and each.pid != before[each.entry.name] for each in stack.status()),
        MOST_SECONDS,
    )
    servers.wait_for("Airflow answers", lambda: airflow.knows(settings, ["retrain"]), MOST_SECONDS)
    assert ended(settings, airflow.trigger(settings, "retrain", {})) == "success"
    assert [each.level for each in diagnosis(settings)] == ["ok", "ok"]


def test_down_ends_a_task_and_the_next_up_goes_on_with_it(stack: Stack, settings: Settings, recorded: Path) -> None:
    (recorded / "go").unlink(missing_ok=True)
    before = len(recorder.calls(recorded))
    run = airflow.trigger(settings, "retrain", {})
    servers.wait_for("the task runs", lambda: len(recorder.calls(recorded)) > before, MOST_SECONDS)
    running = commands(stack.processes())
    assert running
    begun = time.monotonic()
    stack.stop(lambda _: None)
    assert time.monotonic() - begun < 60
    assert processes.wait(running, 0) == []
    assert processes.of_home(stack.home) == []
    (recorded / "go").touch()
    stack.start(lambda _: None)
    assert ended(settings, run) == "success"


def test_what_a_killed_supervisor_leaves_of_a_task_is_ended(stack: Stack, settings: Settings, recorded: Path) -> None:
    (recorded / "go").unlink(missing_ok=True)
    before = len(recorder.calls(recorded))
    airflow.trigger(settings, "retrain", {})
    servers.wait_for("the task runs", lambda: len(recorder.calls(recorded)) > before, MOST_SECONDS)
    supervisord = processes.named([stack.home / "stack" / "supervisord.pid"])[0]
    for each in (supervisord.pid, pid(stack, SCHEDULER), pid(stack, airflow.NAME)):
        os.kill(each, signal.SIGKILL)
    orphans = processes.of_home(stack.home)
    assert commands(orphans)
    # The executor's orphans don't end when they are asked to; they are killed when the time is over.
    stack.stop(lambda _: None, 10)
    assert processes.wait(orphans, 0) == []
    assert processes.of_home(stack.home) == []


def test_an_airflow_that_never_was_says_how_to_start_it(tmp_path: Path) -> None:
    settings = servers.settings(tmp_path)
    with pytest.raises(StateError, match="`fraud-detect up` starts Airflow"):
        airflow.trigger(settings, "retrain", {})
    airflow.programs(settings)  # makes the password
    with pytest.raises(ServiceError, match="is it up"):
        airflow.trigger(settings, "retrain", {})
