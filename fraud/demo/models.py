"""The demo's two models: each trained in a process of its own, then promoted; the second beside the stream."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fraud import registry
from fraud.errors import ServiceError, StateError
from fraud.settings import Settings
from fraud.stack import processes
from fraud.store import open_store

OWNER = "demo"
MODEL_SECONDS = 120.0
POLL_SECONDS = 0.2
NICER = 10  # training yields to the stream

Say = Callable[[str], None]


def train(settings: Settings, directory: Path, as_of: datetime, say: Say, *, beside_stream: bool = False) -> str:
    """Train and register a version in a process of its own [train]; return its number."""
    say(f"training on what was known at {as_of:%Y-%m-%d}")
    command = [sys.executable, "-m", "fraud.cli", "train", "--from", str(directory), "--as-of", as_of.isoformat()]
    if beside_stream:
        command = ["nice", "-n", str(NICER), *command, "--threads", "1"]
    log = settings.logs / "train.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        done = subprocess.run(  # noqa: S603
            [*command, "--json"],
            # The mark lets the stack end it, however the demo ends.
            env={**os.environ, **settings.environment(), processes.VARIABLE: _mark(settings)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            check=False,
        )
    if done.returncode != 0:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise ServiceError(f"training failed ({done.returncode}): {''.join(last)} (see {log})")
    result = json.loads(done.stdout.splitlines()[-1])
    say(f"version {result['version']} is registered, average precision {_judged(result)} on the newest known weeks")
    return str(result["version"])


def promote(settings: Settings, version: str, why: str, say: Say) -> int:
    """Move a version to Production [promote]; return when that was done, ms."""
    registry.promote(settings, version, why, who=OWNER, at=datetime.now(UTC))
    at = time.time_ns() // 1_000_000
    say(f"version {version} is in Production")
    return at


def wait_for_model(settings: Settings, version: str) -> None:
    """Return when the watcher has put the version into the online store."""
    deadline = time.monotonic() + MODEL_SECONDS
    store = open_store(settings)
    try:
        while True:
            pointer = store.serving.pointer()
            if pointer is not None and pointer.model_version == version:
                return
            if time.monotonic() > deadline:
                raise StateError(f"the score job didn't take version {version}; see {settings.logs / 'score.log'}")
            time.sleep(POLL_SECONDS)
    finally:
        store.close()


class Second:
    """Trains and promotes version 2 in a thread, some seconds into the stream."""

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        as_of: datetime,
        after: float,
        promoted: dict[str, int],
        say: Say,
        stop: threading.Event,
    ) -> None:
        self._settings, self._directory, self._as_of, self._after = settings, directory, as_of, after
        self._promoted, self._say, self._stop = promoted, say, stop
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="second model", daemon=True)

    def start(self) -> None:
        """Begin to wait for its time."""
        self._thread.start()

    def finish(self) -> None:
        """Return when it is promoted; raises what went wrong."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        if self._stop.wait(self._after):
            return
        try:
            version = train(self._settings, self._directory, self._as_of, self._say, beside_stream=True)
            if not self._stop.is_set():
                self._promoted[version] = promote(self._settings, version, "it knows ten more days", self._say)
        except BaseException as exc:  # noqa: BLE001 - raised by `finish`, in the main thread
            self._error = exc
            self._stop.set()


def _judged(result: dict[str, Any]) -> str:
    value = result.get("metrics", {}).get("average_precision")
    return "?" if value is None else f"{float(value):.3f}"


def _mark(settings: Settings) -> str:
    return str(processes.Mark(OWNER, settings.home.absolute()))
