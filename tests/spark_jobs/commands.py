"""The command line as a user calls it, with a test's settings."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fraud import bus
from fraud.settings import Settings
from tests import servers

COMMAND = str(Path(sys.executable).parent / "fraud-detect")
SECONDS = 240.0


def call(settings: Settings, *arguments: str, seconds: float = SECONDS) -> str:
    """Run a command to its end and return what it said to people; it must exit 0."""
    return _call(settings, arguments, seconds).stderr


def result(settings: Settings, *arguments: str, seconds: float = SECONDS) -> Any:
    """Run a command with --json to its end and return its result; it must exit 0."""
    done = _call(settings, (*arguments, "--json"), seconds)
    assert done.stdout.count("\n") == 1, done.stdout
    return json.loads(done.stdout)


@contextmanager
def running(settings: Settings, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command for as long as the block lasts; then it must end in order: SIGTERM, exit 0.

    What it says goes to a log in the settings' home; what it prints can be read with `finish`.
    """
    settings.logs.mkdir(parents=True, exist_ok=True)
    path = settings.logs / f"{arguments[0]}-test.log"
    with path.open("w") as log:
        process = subprocess.Popen(
            [COMMAND, *arguments],
            env=servers.environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            preexec_fn=servers._die_with_pytest,
        )
    try:
        yield process
        finish(process)
        assert process.returncode == 0, path.read_text()[-4000:]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def finish(process: subprocess.Popen[str], seconds: float = 30.0) -> str:
    """End a running command in order and return what it printed; nothing if it was finished before."""
    if process.stdout is None or process.stdout.closed:
        return ""
    if process.poll() is None:
        process.terminate()
    return process.communicate(timeout=seconds)[0]


def answered(settings: Settings) -> int:
    """Return how many answers were published, repeats among them."""
    ends = [bus.end_offsets(settings.kafka_bootstrap, topic) for topic in (bus.PREDICTIONS, bus.DLQ)]
    return sum(sum(each.values()) for each in ends)


def _call(settings: Settings, arguments: tuple[str, ...], seconds: float) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [COMMAND, *arguments],
        env=servers.environment(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(arguments)} exited {done.returncode}:\n{done.stdout}{done.stderr}"
    return done
