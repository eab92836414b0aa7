"""The archive job as a supervised program."""

import sys
import time

from fraud.errors import ServiceError, StoreError
from fraud.settings import PREFIX, Settings
from fraud.stack import jars
from fraud.stack.ports import LOOPBACK, is_open
from fraud.stack.program import Program
from fraud.stack.stored import is_held, opened

LEASE = "archive"


def program(settings: Settings) -> Program:
    """Describe the archive job; its Spark UI is at FRAUD_ARCHIVE_UI_PORT (0: any free port)."""
    port = settings.archive_ui_port
    ui = f"http://{LOOPBACK}:{port}" if port else None
    return Program(
        name="archive",
        command=[sys.executable, "-m", "fraud.cli", "archive"],
        address=ui or "a free port, see its log",
        ready=lambda: is_archiving(settings, time.time_ns() // 1_000_000),
        ports=[(port, f"{PREFIX}ARCHIVE_UI_PORT")] if port else [],
        needs=["kafka", "s3"],
        environment={**settings.environment(), "PYTHONUNBUFFERED": "1"},
        prepare=lambda: _fetch(settings),
        notice=jars.notice(settings, "spark"),
        ui=ui,
        # A refused start ends within this time, on slow machines too: four tries, then it is left alone.
        start_seconds=30,
        # What it may take to end the micro-batch in flight, its JVM and the lease.
        stop_seconds=25,
    )


def is_archiving(settings: Settings, now: int) -> bool:
    """Tell whether a living process holds the lease `archive` and its Spark UI answers; `now` in ms."""
    if settings.archive_ui_port and not is_open(settings.archive_ui_port):
        return False
    try:
        with opened(settings) as store:
            lease = None if store is None else store.histories.leases().get(LEASE)
    except (StoreError, ServiceError):
        return False
    return lease is not None and is_held(lease, now)


def _fetch(settings: Settings) -> None:
    jars.spark_jars(settings)
