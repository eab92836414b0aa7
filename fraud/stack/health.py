"""Whether a container does its work (`python -m fraud.stack.health score`): exit 0 if so, else 1.

Of the jobs it asks what `up` and `doctor` ask on one machine: a living process holds the job's lease in the online
store, which it renews every three seconds, and its Spark UI answers. Of the producer: has `transactions` grown since
it was asked last?
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from fraud import bus
from fraud.settings import Settings
from fraud.stack.jobs import is_at_work
from fraud.store.leases import ARCHIVE, SCORE

UIS = {SCORE: "spark_ui_port", ARCHIVE: "archive_ui_port"}


def has_grown(settings: Settings, kept: Path) -> bool:
    """Tell whether `transactions` has grown since `kept` was written, and write it again; the first time: yes."""
    end = sum(bus.end_offsets(settings.kafka_bootstrap, bus.TRANSACTIONS).values())
    before = int(kept.read_text()) if kept.exists() else -1
    kept.write_text(str(end))
    return end > before


def main(job: str) -> int:
    """Return the exit code for a job's name."""
    settings = Settings.load(os.environ)
    if job == "producer":
        return 0 if has_grown(settings, Path(tempfile.gettempdir()) / "transactions.end") else 1
    now = time.time_ns() // 1_000_000
    return 0 if is_at_work(settings, job, getattr(settings, UIS[job]), now) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
