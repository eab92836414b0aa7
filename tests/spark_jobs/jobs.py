"""The score job as a test sees it: a real subprocess against a real Kafka.

    settings = servers.settings(home)                 # a home of its own: store, checkpoint, log
    jobs.publish_model(settings)                      # or a registry and Job(settings, watch=True)
    with jobs.Job(settings) as job:                   # the product's run(), with a fault's handle
        job.start().wait_until_scoring()
        sent = jobs.produce(settings, jobs.transactions(1000))
        answers = jobs.answers(settings)              # waits until every offset is answered
        answers[sent[0]].json()["decision"]

* `Job`: start, wait_until_scoring, stop (SIGTERM, returns the exit code), kill (SIGKILL of one process, a
  crash), wait (for a job that ends by itself), pids (driver, jvm, daemon, workers), descendants, log, fault.
  Leaving its block ends whatever is left of it. A `Job` may be started again: the same home resumes.
* `produce` sends messages (key, value) in order and returns each one's `Source` (partition, offset).
* `answers` reads both answer topics from their beginning: by source, every copy in the order in which it was
  published, with raw bytes, key and broker time. `Answers.missing` names what has no answer.
* `message`/`transactions` make valid ones; `publish_model` puts a small real bundle into the store.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

import psutil

from fraud.settings import Settings
from fraud.stack import classes
from tests import servers
from tests.spark_jobs.traffic import (
    Answer,
    Answers,
    Message,
    Source,
    answers,
    message,
    produce,
    publish_model,
    transactions,
)

__all__ = [
    "Answer",
    "Answers",
    "Job",
    "Message",
    "Pids",
    "Source",
    "answers",
    "message",
    "produce",
    "publish_model",
    "transactions",
]

READY_SECONDS = 120.0  # a JVM and its first micro-batch on a busy machine
STOP_SECONDS = 30.0
DAEMON = "spark_jobs.daemon"  # in the command of the Python daemon and its workers
SCORING = "scoring transactions"  # what the job says when its query runs


@dataclass(frozen=True)
class Pids:
    """The job's processes; None and empty where there is none (any more)."""

    driver: int | None
    jvm: int | None
    daemon: int | None
    workers: list[int] = field(default_factory=list)


class Job:
    """The score job as a subprocess; see the module's docstring."""

    def __init__(
        self,
        settings: Settings,
        *,
        watch: bool = False,
        begin: Literal["earliest", "latest"] | None = None,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "tests.spark_jobs.entry"),
    ) -> None:
        self.settings, self.watch, self.begin, self.command = settings, watch, begin, command
        self.extra = dict(environment or {})
        self.log_file = settings.logs / "score-test.log"
        self.fault_file = settings.home.absolute() / "fault.json"
        self.process: subprocess.Popen[bytes] | None = None
        self._family: set[psutil.Process] = set()
        self._said = 0

    def __enter__(self) -> "Job":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def start(self) -> "Job":
        """Start it; the log goes on in the same file."""
        assert self.process is None or self.process.poll() is not None, "it runs already"
        classes.ensure(self.settings, print)  # as `up` does
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self._said = len(self.log)
        environment = servers.environment(self.settings) | {"FAULT_FILE": str(self.fault_file)} | self.extra
        environment |= {"JOB_FROM": self.begin or "", "JOB_WATCH": "1" if self.watch else ""}
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=servers.REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=servers._die_with_pytest,
            )
        return self

    @property
    def log(self) -> str:
        """Everything that any of its runs said."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def run_log(self) -> str:
        """What its last run said."""
        return self.log[self._said :]

    def words(self) -> str:
        """Return what its last run said, without Java's stack frames: for a failed test."""
        return "\n".join(line for line in self.run_log.splitlines() if not line.startswith("\tat "))[-4000:]

    @property
    def returncode(self) -> int | None:
        """Return its exit code, None while it runs."""
        return None if self.process is None else self.process.poll()

    def wait_for_log(self, text: str, seconds: float = READY_SECONDS) -> "Job":
        """Wait until its last run says `text`."""

        def said() -> bool:
            found = text in self.run_log
            assert found or self.returncode is None, f"it ended ({self.returncode}):\n{self.words()}"
            return found

        servers.wait_for(f"the job says {text!r} (see {self.log_file})", said, seconds, every=0.05)
        self._look()
        return self

    def wait_until_scoring(self, seconds: float = READY_SECONDS) -> "Job":
        """Wait until its query runs; the first micro-batch may still be ahead."""
        return self.wait_for_log(SCORING, seconds)

    def wait(self, seconds: float = READY_SECONDS) -> int:
        """Wait until it ends by itself; return its exit code."""
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the job still runs after {seconds:.0f} s:\n{self.words()}") from None

    def stop(self, number: int = signal.SIGTERM, seconds: float = STOP_SECONDS) -> int:
        """Ask the driver to end in order; return its exit code."""
        assert self.process is not None
        self._look()
        self.process.send_signal(number)
        return self.wait(seconds)

    def kill(self, who: Literal["driver", "jvm", "daemon", "worker"] = "driver") -> int:
        """kill -9 of one process; return its pid. The driver's death is waited for."""
        self._look()
        pids = self.pids()
        pid = pids.workers[0] if who == "worker" and pids.workers else getattr(pids, who, None)
        assert pid is not None, f"there is no {who}: {pids}"
        os.kill(pid, signal.SIGKILL)
        if who == "driver":
            assert self.process is not None
            self.process.wait()
        return int(pid)

    def pids(self) -> Pids:
        """Return its processes' ids; workers whose daemon was killed go on, and are among them."""
        if self.returncode is not None or self.process is None:
            return Pids(None, None, None)
        self._look()
        python = [each for each in self._family if _lives(each) and DAEMON in (servers.unless_gone(each.cmdline) or [])]
        jvm = next((child.pid for child in _children(self.process.pid) if "java" in child.name()), None)
        daemon = next((each.pid for each in python if each.ppid() == jvm), None)
        workers = sorted(each.pid for each in python if each.pid != daemon)
        return Pids(self.process.pid, jvm, daemon, workers)

    def descendants(self) -> list[int]:
        """Return those of its processes that live, also after the driver's death."""
        self._look()
        return sorted(each.pid for each in self._family if _lives(each))

    def fault(
        self,
        step: Literal["features", "decided", "committed", "yielded"],
        do: Literal["raise", "kill", "hold"],
        *,
        transaction: str | None = None,
        once: bool = True,
    ) -> None:
        """Order a fault in the next task that reaches `step` (with `transaction` in it): see tests/…/entry.py.

        At ``yielded`` `transaction` is the number of the chunk that has left, "0" being the first.
        """
        fresh = self.fault_file.with_suffix(".new")
        fresh.write_text(json.dumps({"step": step, "do": do, "id": transaction, "once": once}))
        fresh.replace(self.fault_file)

    def wait_until_held(self, seconds: float = READY_SECONDS) -> int:
        """Wait until a task holds at the ordered step; return the worker's pid. `release` lets it go on."""
        held = self.fault_file.with_suffix(".held")
        return int(servers.wait_for("a task holds", lambda: held.exists() and held.read_text(), seconds, every=0.01))

    def release(self) -> None:
        """Let a held task go on, or forget a hold whose process was killed."""
        self.fault_file.with_suffix(".held").unlink(missing_ok=True)

    def end(self) -> None:
        """End whatever is left of it, at once."""
        self._look()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for each in self._family:
            if _lives(each):
                each.kill()

    def _look(self) -> None:
        """Remember what descends from the driver now: after a parent's death nothing else tells."""
        if self.process is not None and self.process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                self._family |= set(psutil.Process(self.process.pid).children(recursive=True))
            # Workers forked since their daemon was orphaned are found through the daemon.
            for each in [each for each in self._family if _lives(each)]:
                with suppress(psutil.NoSuchProcess):
                    self._family |= set(each.children(recursive=True))


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
