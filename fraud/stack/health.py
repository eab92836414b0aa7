"""Whether a job in a container does its work (`python -m fraud.stack.health score`): exit 0 if so, else 1.

It asks what `up` and `doctor` ask on one machine: a living process holds the job's lease in the online store,
which it renews every three seconds, and its Spark UI answers.
"""

import os
import sys
import time

from fraud.settings import Settings
from fraud.stack.jobs import is_at_work
from fraud.store.leases import ARCHIVE, SCORE

UIS = {SCORE: "spark_ui_port", ARCHIVE: "archive_ui_port"}


def main(job: str) -> int:
    """Return the exit code for a job's name."""
    settings = Settings.load(os.environ)
    now = time.time_ns() // 1_000_000
    return 0 if is_at_work(settings, job, getattr(settings, UIS[job]), now) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
