"""Real servers on loopback for tests: started from the same descriptions as `make up`, on free ports."""

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

from fraud.bench import topics
from fraud.settings import Settings
from fraud.stack import kafka, mlflow, seaweed
from fraud.stack.ports import free_ports
from fraud.stack.program import Program

REPOSITORY = Path(__file__).resolve().parent.parent
# What can be fetched (jars, a Java) is fetched once for all tests, and shared with `make up`.
CACHE = REPOSITORY / ".run" / "cache"
_PR_SET_PDEATHSIG = 1

T = TypeVar("T")


def settings(home: Path, **changes: Any) -> Settings:
    """Return settings with a home of their own and free ports; nothing is started."""
    ports = free_ports(6)
    home.mkdir(parents=True, exist_ok=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    if not (home / "cache").exists():
        (home / "cache").symlink_to(CACHE)
    values: dict[str, Any] = {
        "home": home,
        "kafka_bootstrap": f"127.0.0.1:{ports[0]}",
        "s3_endpoint": f"http://127.0.0.1:{ports[1]}",
        "mlflow_uri": f"http://127.0.0.1:{ports[2]}",
        "spark_ui_port": ports[3],
        "archive_ui_port": ports[4],
        "airflow_uri": f"http://127.0.0.1:{ports[5]}",
        "watch_seconds": 0.2,
    }
    return Settings.load({}, **(values | changes))


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment in which the command line has exactly these settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FRAUD_")}
    return inherited | settings.environment()


def wait_for(what: str, check: Callable[[], object], seconds: float = 60.0, every: float = 0.1) -> Any:
    """Poll until `check` returns something true and return it; fail with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(every)


def unless_gone(ask: Callable[[], T]) -> T | None:
    """Return what a process answers, None if it has ended since it was found."""
    try:
        return ask()
    except psutil.NoSuchProcess:
        return None


def _die_with_pytest() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Server:
    """One running server; `kill` and `start` may be called in the middle of a test."""

    def __init__(self, program: Program, log: Path) -> None:
        self.program, self.log = program, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it serves."""
        self.program.prepare()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                list(self.program.command),
                env={**os.environ, **self.program.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_pytest,
            )
        self.process = process

        def ready() -> bool:
            assert process.poll() is None, f"{self.program.name} ended: {self.log.read_text()[-2000:]}"
            return self.program.ready()

        wait_for(f"{self.program.name} is ready (see {self.log})", ready, 120)
        self.program.after()

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        """End its process group and wait for it; SIGKILL is a crash."""
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, signal_number)
            self.process.wait(30)
        except ProcessLookupError:
            pass
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def kill(self) -> None:
        """kill -9."""
        self.stop(signal.SIGKILL)


@contextmanager
def running(program: Program, home: Path) -> Iterator[Server]:
    """Run a server for as long as the block lasts."""
    server = Server(program, home / "logs" / f"{program.name}.log")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def running_kafka(settings: Settings) -> Iterator[Server]:
    """Run the embedded broker with its topics."""
    with running(kafka.program(settings), settings.home) as server:
        yield server


@contextmanager
def running_s3(settings: Settings) -> Iterator[Server]:
    """Run the embedded S3 server with its buckets."""
    sockets = Path(tempfile.mkdtemp(prefix="fraud-"))
    try:
        with running(seaweed.program(settings, sockets), settings.home) as server:
            yield server
    finally:
        shutil.rmtree(sockets, ignore_errors=True)


@contextmanager
def running_mlflow(settings: Settings) -> Iterator[Server]:
    """Run the embedded MLflow server; it needs the S3 server for artefacts only."""
    with running(mlflow.program(settings), settings.home) as server:
        yield server


def fresh_topics(settings: Settings) -> None:
    """Delete the platform's topics and make them again, empty and with new ids."""
    topics.recreate(settings)
