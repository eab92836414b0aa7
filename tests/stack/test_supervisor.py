"""The supervisor with real, small programs: order, restart, refusals, and nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fraud.errors import ServiceError, StateError
from fraud.settings import Settings
from fraud.stack import processes
from fraud.stack.ports import is_open
from fraud.stack.supervisor import Stack, running
from tests import servers
from tests.stack import small

pytestmark = pytest.mark.server  # a real supervisord


@pytest.fixture
def home(tmp_path: Path) -> Path:
    # What quoting must survive: a space, and what supervisord's configuration expands.
    return tmp_path / "a home, 100%"


@pytest.fixture
def settings(home: Path) -> Iterator[Settings]:
    found = servers.settings(home)
    yield found
    left = processes.of_home(home)
    processes.end(left, 0)
    assert not left, f"left behind: {[processes.describe(each) for each in left]}"


def state(stack: Stack, name: str) -> tuple[str, int | None]:
    found = next(each for each in stack.status() if each.entry.name == name)
    return found.state, found.pid


def test_a_stack_lives(settings: Settings) -> None:
    said: list[str] = []
    stack = Stack(settings, "up", small.two)
    started = stack.start(said.append)
    assert {each.entry.name: each.state for each in started} == {"upper": "running", "lower": "running"}
    assert [line for line in said if line.startswith("starting")] == ["starting lower", "starting upper"]
    # supervisord, two programs and the child in a session of its own.
    assert len(stack.processes()) == 4

    # A second start, by another process's eyes, finds nothing to do.
    before = {each.pid for each in stack.processes()}
    again = Stack(settings, "up", small.two)
    again.start(said.append)
    assert "already up" in said[-1]
    assert {each.pid for each in stack.processes()} == before

    with pytest.raises(StateError, match=r"other settings: FRAUD_TOPIC_PARTITIONS=2 \(now 3\)"):
        Stack(settings.model_copy(update={"topic_partitions": 3}), "up", small.two).start(said.append)
    with pytest.raises(StateError, match="are up; stop them first"), running(again, said.append):
        raise AssertionError("a running stack is not ours to run")

    _, killed = state(stack, "lower")
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    servers.wait_for(
        "a killed program is back",
        lambda: state(stack, "lower")[1] not in (None, killed) and state(stack, "lower")[0] == "running",
        10,
    )

    begun = time.monotonic()
    assert stack.stop(said.append)
    assert time.monotonic() - begun < 10
    assert said[-2:] == ["stopping upper", "stopping lower"]
    assert stack.processes() == []
    assert stack.status() == []
    assert not stack.stop(said.append)
    assert sorted(path.name for path in settings.logs.iterdir()) == ["lower.log", "supervisord.log", "upper.log"]


def test_a_taken_port_is_named_with_its_holder(settings: Settings) -> None:
    port = settings.port("mlflow_uri")
    command = [sys.executable, "-c", small.SERVER, str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as stranger:
        try:
            servers.wait_for("the stranger listens", lambda: is_open(port), 20)
            stack = Stack(settings, "up", small.two)
            with pytest.raises(
                StateError, match=rf"{port} of upper is taken by .*pid {stranger.pid}.*FRAUD_MLFLOW_URI"
            ):
                stack.start(lambda _: None)
            assert stack.processes() == []
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_two_stacks_on_the_same_ports_meet(settings: Settings, tmp_path: Path) -> None:
    other = settings.model_copy(update={"home": tmp_path / "demo"})
    with (
        running(Stack(other, "demo", small.two), lambda _: None),
        pytest.raises(StateError, match=rf"taken by `fraud-detect demo` in {other.home}.*FRAUD_KAFKA_BOOTSTRAP"),
    ):
        Stack(settings, "up", small.two).start(lambda _: None)
    assert processes.of_home(other.home) == []


def test_a_program_that_ends_at_once_takes_all_down(settings: Settings) -> None:
    stack = Stack(settings, "up", small.broken)
    with pytest.raises(ServiceError, match=r"failing ended while it was started(?s:.*)no such flag"):
        stack.start(lambda _: None)
    assert stack.processes() == []
    assert not is_open(settings.port("kafka_bootstrap"))


def test_what_a_killed_supervisor_leaves_is_reaped(settings: Settings) -> None:
    stack = Stack(settings, "up", small.two)
    stack.start(lambda _: None)
    orphans = {each.pid for each in stack.processes()}
    supervisord = processes.named([settings.home / "stack" / "supervisord.pid"])[0]
    _, upper = state(stack, "upper")
    for pid in (supervisord.pid, upper):  # the child in its own session loses its parent as well
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    assert processes.wait([supervisord], 5) == []
    assert len(stack.processes()) == 2
    said: list[str] = []
    stack.start(said.append)
    assert said[0] == "ending 2 processes that a killed supervisor left behind"
    assert orphans.isdisjoint(each.pid for each in stack.processes())
    stack.stop(said.append)


def test_a_pid_file_of_another_life_names_nobody(tmp_path: Path) -> None:
    stranger = processes.identity(os.getppid())
    file = tmp_path / "lower.pid"
    file.write_text(f'{{"pid": {os.getppid()}, "started": {stranger["started"] - 100}}}')
    assert processes.named([file]) == []
    file.write_text("{")
    assert processes.named([file]) == []


STARTER = """
import sys
from fraud.settings import Settings
from fraud.stack.signals import interruptible
from fraud.stack.supervisor import Stack
from tests.stack import small
import os
try:
    with interruptible():
        Stack(Settings.load(os.environ), "up", small.never_ready).start(lambda line: print(line, flush=True))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize(("line", "number"), [("starting lower", signal.SIGINT), ("starting silent", signal.SIGTERM)])
def test_an_interrupted_start_leaves_nothing(settings: Settings, line: str, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER],
        env=servers.environment(settings),
        cwd=servers.REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as starter:
        assert starter.stdout is not None
        said = []
        for each in starter.stdout:
            said.append(each.strip())
            if each.strip() == line:
                starter.send_signal(number)
                starter.send_signal(number)  # an impatient second one
                break
        said += [each.strip() for each in starter.stdout]
    assert starter.returncode == 130, said
    assert processes.of_home(settings.home.absolute()) == [], said
    assert not any(psutil.pid_exists(each.pid) for each in processes.named((settings.home / "stack").glob("*.pid")))
