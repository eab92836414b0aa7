"""The score job with a fault inside: what `jobs.Job` starts instead of the command line.

Everything but the fault is the product: `spark_jobs.score.run`. The fault reads its instruction from the
file in FAULT_FILE, which a test may write at any moment (`jobs.Job.fault`); without a file it does nothing.
"""

import faulthandler
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fraud import watcher
from fraud.errors import FraudError
from fraud.settings import Settings
from fraud.watcher import Watching
from spark_jobs import score
from spark_jobs.stop import Stop

HOLD_SECONDS = 300.0  # longer than a job takes to start again on a busy machine


@dataclass(frozen=True)
class Fault:
    """Carries out the instruction in `path` when a task reaches its step; runs in the Python workers.

    The instruction: `step`, `id` (a transaction that must be among the step's; null: any), `do`
    (``raise``, ``kill``: this worker, ``hold``: wait until somebody kills us or removes the file) and
    `once` (take the instruction away first).
    """

    path: Path

    def __call__(self, step: str, ids: Sequence[str]) -> None:
        try:
            wanted: dict[str, Any] = json.loads(self.path.read_text())
        except FileNotFoundError:
            return
        if step != wanted["step"] or (wanted["id"] is not None and wanted["id"] not in ids):
            return
        if wanted["once"]:
            try:
                self.path.rename(self.path.with_suffix(".met"))
            except FileNotFoundError:
                return  # another worker took it
        if wanted["do"] == "raise":
            raise ArithmeticError(f"a fault was ordered for {wanted['id']}")
        if wanted["do"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        self.path.with_suffix(".held").write_text(str(os.getpid()))
        deadline = time.monotonic() + HOLD_SECONDS
        while self.path.with_suffix(".held").exists() and time.monotonic() < deadline:
            time.sleep(0.01)


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main() -> int:
    """Run the job as the command line does, with a fault in its tasks; SIGUSR1 prints every thread's stack."""
    faulthandler.register(signal.SIGUSR1)
    settings = Settings.load(os.environ)
    choice: Any = os.environ.get("JOB_FROM") or None
    watch = partial(_watch, settings) if os.environ.get("JOB_WATCH") else None
    order = score.Order(settings, choice=choice, watch=watch, fault=Fault(Path(os.environ["FAULT_FILE"])))
    stop = Stop()
    try:
        with stop.on_signals():
            score.run(order, stop, say)
    except FraudError as exc:
        say(f"error: {exc}")
        return 1
    say("score: ended")
    return 0


def _watch(settings: Settings, store: Any) -> Watching:
    return watcher.start(settings, store, clock=score.clock, say=say)


if __name__ == "__main__":
    sys.exit(main())
