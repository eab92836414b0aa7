"""The commands that a person would type, run by the demo: each in a process of its own, marked as the demo's."""

import json
import os
import subprocess
import sys
from typing import Any

from fraud.errors import ServiceError
from fraud.settings import Settings
from fraud.stack import processes

OWNER = "demo"


def call(settings: Settings, *words: str) -> dict[str, Any]:
    """Run `fraud-detect WORDS --json` and return its result; what it says goes to logs/WORD.log.

    Raises:
        ServiceError: it failed; with its last line and where the rest is.
    """
    log = settings.logs / f"{words[0]}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "fraud.cli", *words, "--json"],
            # The mark lets the stack end it, however the demo ends.
            env={**os.environ, **settings.environment(), processes.VARIABLE: mark(settings)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            check=False,
        )
    if done.returncode != 0:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise ServiceError(f"`fraud-detect {words[0]}` failed ({done.returncode}): {''.join(last)} (see {log})")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def mark(settings: Settings) -> str:
    """Return the mark of the demo's processes."""
    return str(processes.Mark(OWNER, settings.home.absolute()))
