"""The archive job with a fault inside: everything else is the product, `spark_jobs.archive.run`.

The fault reads its instruction from the file in FAULT_FILE: `step` (see spark_jobs.archive_batch) after which this
process is killed, once.
"""

import json
import os
import signal
import sys
from pathlib import Path

from fraud.errors import FraudError
from fraud.settings import Settings
from spark_jobs import archive
from spark_jobs.stop import Stop


def fault(step: str) -> None:
    """Die if this step is the one that was ordered."""
    path = Path(os.environ["FAULT_FILE"])
    if path.exists() and json.loads(path.read_text())["step"] == step:
        path.rename(path.with_suffix(".met"))
        os.kill(os.getpid(), signal.SIGKILL)


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main() -> int:
    """Run the job as the command line does."""
    stop = Stop()
    try:
        with stop.on_signals():
            archive.run(archive.Order(Settings.load(os.environ), fault), stop, say)
    except FraudError as exc:
        say(f"error: {exc}")
        return 1
    say("archive: ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
