"""What is done while the servers start: the past is loaded, and version 1 is trained on it and promoted.

The jobs begin after that: they hold the leases that a load needs, and find a model when they look for one.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from fraud.demo.commands import OWNER, call
from fraud.demo.models import Say, promote, train
from fraud.demo.plan import Plan, Times
from fraud.settings import Settings
from fraud.stack import airflow
from fraud.stack.platform import platform
from fraud.stack.program import Program
from fraud.stack.supervisor import Stack

JOBS = ("score", "archive")


class Beginning:
    """Loading and training in a thread, started by the stack when S3, Kafka and MLflow serve.

    Attributes:
        promoted: version → when its promotion returned, ms.
    """

    def __init__(self, settings: Settings, plan: Plan, when: Times, directory: Path, say: Say) -> None:
        self._settings, self._plan, self._when, self._directory, self._say = settings, plan, when, directory, say
        self.promoted: dict[str, int] = {}
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="beginning", daemon=True)

    def describe(self, settings: Settings, sockets: Path) -> Sequence[Program]:
        """Describe the platform; its jobs wait for Airflow to serve and for what is done here."""
        programs = platform(settings, sockets)
        others = [each.name for each in programs if each.name not in JOBS]
        described = []
        for program in programs:
            if program.name == airflow.NAME:
                described.append(replace(program, prepare=partial(self._first, program.prepare)))
            elif program.name in JOBS:
                described.append(replace(program, needs=others, prepare=partial(self._then, program.prepare)))
            else:
                described.append(program)
        return described

    def wait(self) -> None:
        """Return when all is done; raises what went wrong."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _first(self, prepare: Callable[[], None]) -> None:
        self._thread.start()
        prepare()

    def _then(self, prepare: Callable[[], None]) -> None:
        self.wait()
        prepare()

    def _run(self) -> None:
        settings, plan, when = self._settings, self._plan, self._when
        try:
            loaded = call(settings, "backfill", str(self._directory), "--until", when.begin.isoformat())
            self._say(f"loaded {loaded['rows']:,} transactions into {loaded['users']:,} histories and the lake")
            if self._is_over():
                return
            version = train(settings, when.first, plan.candidates, plan.seed, self._say)
            if self._is_over():
                return
            self.promoted[version] = promote(settings, version, "the first model", self._say)
        except BaseException as exc:  # noqa: BLE001 - raised by `wait`, in the main thread
            self._error = exc

    def _is_over(self) -> bool:
        """Tell whether the servers were stopped meanwhile: nothing may be started that outlives them."""
        return not Stack(self._settings, OWNER).is_up()
