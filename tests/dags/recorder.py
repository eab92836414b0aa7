"""A `fraud-detect` for tests of the DAGs' own logic: it writes down how it was called and answers as it is told.

    RECORDER=FOLDER recorder.py archive --wait …

FOLDER/calls.jsonl gets one line per call; FOLDER/answers.json holds {subcommand: {"stdout", "exit", "killed",
"wait"}}: what to print, the exit code, how often the process ends by SIGKILL before its answer, and the name of a
file in FOLDER for which it waits.
"""

import json
import os
import shlex
import signal
import stat
import sys
import time
from pathlib import Path
from typing import Any

WAIT_SECONDS = 300.0


def install(folder: Path, answers: dict[str, Any]) -> Path:
    """Write a command that records into `folder` and answers so; return its path, which has a space in it."""
    (folder / "answers.json").write_text(json.dumps(answers))
    command = folder / "a command" / "fraud-detect"
    command.parent.mkdir()
    words = " ".join(map(shlex.quote, (sys.executable, __file__)))
    command.write_text(f'#!/bin/sh\nRECORDER={shlex.quote(str(folder))} exec {words} "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return command


def calls(folder: Path) -> list[dict[str, Any]]:
    """Return the calls so far: {"arguments", "environment"}."""
    path = folder / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    """Record one call and answer it."""
    folder = Path(os.environ["RECORDER"])
    answer = json.loads((folder / "answers.json").read_text())[sys.argv[1]]
    seen = {name: value for name, value in os.environ.items() if name.startswith("FRAUD_")}
    with (folder / "calls.jsonl").open("a") as written:
        written.write(json.dumps({"arguments": sys.argv[1:], "environment": seen}) + "\n")
    deadline = time.monotonic() + WAIT_SECONDS
    while "wait" in answer and not (folder / answer["wait"]).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    if sum(call["arguments"][0] == sys.argv[1] for call in calls(folder)) <= answer.get("killed", 0):
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdout.write(answer.get("stdout", "{}") + "\n")
    sys.stdout.flush()
    sys.stderr.write("words for people\n")
    sys.exit(answer.get("exit", 0))


if __name__ == "__main__":
    main()
