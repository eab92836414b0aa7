"""The two streaming jobs as supervised programs."""

import sys
import time

from fraud.errors import ServiceError, StoreError
from fraud.settings import PREFIX, Settings
from fraud.stack import classes, jars
from fraud.stack.ports import LOOPBACK, is_open
from fraud.stack.program import Program
from fraud.stack.stored import is_held, opened
from fraud.store.leases import ARCHIVE, SCORE


def score(settings: Settings) -> Program:
    """Describe the score job; its Spark UI is at FRAUD_SPARK_UI_PORT (0: any free port)."""
    return _job(settings, SCORE, settings.spark_ui_port, "SPARK_UI_PORT", needs=["kafka", "mlflow"], stop_seconds=20)


def archive(settings: Settings) -> Program:
    """Describe the archive job; its Spark UI is at FRAUD_ARCHIVE_UI_PORT (0: any free port)."""
    return _job(settings, ARCHIVE, settings.archive_ui_port, "ARCHIVE_UI_PORT", needs=["kafka", "s3"], stop_seconds=25)


def is_at_work(settings: Settings, lease: str, ui_port: int, now: int) -> bool:
    """Tell whether a living process holds a job's lease and its Spark UI (0: unknown) answers; `now` in ms."""
    if ui_port and not is_open(ui_port):
        return False
    try:
        with opened(settings) as store:
            held = None if store is None else store.histories.leases().get(lease)
    except (StoreError, ServiceError):
        return False
    return held is not None and is_held(held, now)


def _job(settings: Settings, name: str, port: int, variable: str, needs: list[str], stop_seconds: int) -> Program:
    """Describe the job of the command `name`, whose lease has the same name.

    `stop_seconds` is what it may take to end the micro-batch in flight, its JVM and the lease.
    """
    ui = f"http://{LOOPBACK}:{port}" if port else None
    return Program(
        name=name,
        command=[sys.executable, "-m", "fraud.cli", name],
        address=ui or "a free port, see its log",
        ready=lambda: is_at_work(settings, name, port, time.time_ns() // 1_000_000),
        ports=[(port, f"{PREFIX}{variable}")] if port else [],
        needs=needs,
        environment={**settings.environment(), "PYTHONUNBUFFERED": "1"},
        prepare=lambda: _fetch(settings),
        notice=", ".join(filter(None, (jars.notice(settings, "spark"), classes.notice(settings)))),
        ui=ui,
        # A refused start ends within this time, on slow machines too: four tries, then it is left alone.
        start_seconds=30,
        stop_seconds=stop_seconds,
    )


def _fetch(settings: Settings) -> None:
    jars.spark_jars(settings)
    classes.ensure(settings, lambda _words: None)  # `notice` has said so; without an archive a start takes longer
