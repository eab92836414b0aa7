"""A `fraud-detect` for tests of the DAGs' own logic: it writes down how it was called and answers as it is told.

    RECORDER=FOLDER recorder.py archive --wait …

FOLDER/calls.jsonl gets one line per call; FOLDER/answers.json holds {subcommand: {"stdout", "exit", "killed"}}:
what to print, the exit code, and how often the process ends by SIGKILL after its work, before its answer.
"""

import json
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    """Record one call and answer it."""
    folder = Path(os.environ["RECORDER"])
    answer = json.loads((folder / "answers.json").read_text())[sys.argv[1]]
    seen = {name: value for name, value in os.environ.items() if name.startswith("FRAUD_")}
    with (folder / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps({"arguments": sys.argv[1:], "environment": seen}) + "\n")
    before = (folder / "calls.jsonl").read_text().count(f'{{"arguments": ["{sys.argv[1]}"')
    if before <= answer.get("killed", 0):
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stderr.write("words for people\n")
    sys.stdout.write(answer.get("stdout", "{}") + "\n")
    sys.exit(answer.get("exit", 0))


if __name__ == "__main__":
    main()
