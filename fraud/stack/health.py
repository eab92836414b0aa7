"""Whether a job in a container does its work (`python -m fraud.stack.health score`): exit 0 if so, else 1.

It asks what `up` and `doctor` ask on one machine: a living process holds the job's lease in the online store,
which it renews every three seconds, and its Spark UI answers.
"""

import os
import sys
import time

from fraud.settings import Settings
from fraud.stack.archive import is_archiving
from fraud.stack.score import is_scoring

CHECKS = {"score": is_scoring, "archive": is_archiving}


def main(job: str) -> int:
    """Return the exit code for a job's name."""
    return 0 if CHECKS[job](Settings.load(os.environ), time.time_ns() // 1_000_000) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
