"""The demo's retraining: the DAG is asked for through Airflow's REST API, and followed while the stream goes on."""

import threading
import time
from collections.abc import Callable
from datetime import datetime

from fraud import registry
from fraud.demo.plan import Plan
from fraud.errors import ServiceError
from fraud.settings import Settings
from fraud.stack import airflow

DAG = "retrain"
LOOK_SECONDS = 0.5  # between two looks at the registry
LOOKS = 3  # before Airflow is asked: each question costs it a login
MOST_SECONDS = 900.0  # on a slow machine

Say = Callable[[str], None]


class Retraining:
    """One run of the DAG, followed in a thread.

    Attributes:
        done: set when another version is in Production, or none will be: the run has ended, or something went wrong.
        state: the run's, as Airflow names it; None before it is known.
        promoted: version → a moment before it got into Production and after it wasn't there yet, ms: the last look
            that didn't find it there.
    """

    def __init__(self, settings: Settings, plan: Plan, as_of: datetime, promoted: dict[str, int], say: Say) -> None:
        self._settings, self._plan, self._as_of, self._say = settings, plan, as_of, say
        self.promoted = promoted
        self.done = threading.Event()
        self.state: str | None = None
        self._looked_at = time.time_ns() // 1_000_000
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="retraining", daemon=True)

    def start(self) -> None:
        """Ask for the run and begin to follow it."""
        self._thread.start()

    def finish(self) -> None:
        """Return when the run has ended; raises what went wrong on the way there."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._follow()
        except BaseException as exc:  # noqa: BLE001 - raised by `finish`, in the main thread
            self._error = exc
        finally:
            self.done.set()

    def _follow(self) -> None:
        conf = {
            "as_of": self._as_of.isoformat().replace("+00:00", "Z"),
            "seed": self._plan.seed,
            "candidates": self._plan.candidates,
            "force": False,
        }
        run = airflow.trigger(self._settings, DAG, conf)
        self._say(f"asked Airflow for {DAG}, as of {self._as_of:%Y-%m-%d}: run {run}")
        deadline = time.monotonic() + MOST_SECONDS
        said: set[str] = set()
        while time.monotonic() < deadline:
            for _ in range(LOOKS):
                self._note_production()
                time.sleep(LOOK_SECONDS)
            tasks = airflow.tasks(self._settings, DAG, run)
            for name in [name for name, state in tasks.items() if state == "success" and name not in said]:
                said.add(name)
                self._say(f"  {DAG}: {name} is done")
            self.state = airflow.state(self._settings, DAG, run)
            if self.state in airflow.ENDED:
                self._note_production()
                self._say(f"{DAG} has ended: {self.state}")
                return
        raise ServiceError(f"{DAG} is still {self.state} after {MOST_SECONDS:.0f} s; see {self._settings.logs}")

    def _note_production(self) -> None:
        """Note when the registry has another version in Production."""
        before, self._looked_at = self._looked_at, time.time_ns() // 1_000_000
        version = registry.look(self._settings).production
        if version is not None and version not in self.promoted:
            self.promoted[version] = before
            self._say(f"version {version} is in Production")
            self.done.set()
