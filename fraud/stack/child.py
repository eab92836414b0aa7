"""Become a supervised program: leave a pid file, then exec (`python -m fraud.stack.child FILE NAME`).

The command and its environment stand in FILE, readable by its owner only: nothing needs to be quoted for
supervisord's configuration, and no secret appears in it. The pid file names pid and start time, so that
what survives a killed supervisord can be told from a stranger with the same pid.
"""

import json
import os
import sys
from pathlib import Path

from fraud.stack import processes


def main(file: Path, name: str) -> None:
    """Replace this process by the program `name` of FILE."""
    spec = json.loads(file.read_text())[name]
    pid_file = file.parent / f"{name}.pid"
    fresh = pid_file.with_name(f"{name}.{os.getpid()}")
    fresh.write_text(json.dumps(processes.identity(os.getpid())))
    fresh.replace(pid_file)
    command = spec["command"]
    os.execvpe(command[0], command, os.environ | spec["environment"])  # noqa: S606


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
