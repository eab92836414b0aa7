"""Know the processes of a stack, whoever their parent is now, and end them.

Every process that a stack starts inherits the variable FRAUD_STACK, its mark: who started it and for which
home. So the Spark driver's JVM, a worker daemon in a session of its own and the orphans of a killed parent are
known for what they are, and nobody else's process ever is.
"""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

VARIABLE = "FRAUD_STACK"
POLL_SECONDS = 0.05
# Start times are computed from the boot time, which moves when the clock is set.
SAME_START_SECONDS = 2.0


@dataclass(frozen=True)
class Mark:
    """The command that started a stack (``up``, ``demo``), and the stack's home."""

    owner: str
    home: Path

    def __str__(self) -> str:
        return f"{self.owner}:{self.home}"

    @classmethod
    def of(cls, process: "psutil.Process") -> "Mark | None":
        """Return a process's mark, None if it has none that may be read."""
        import psutil

        try:
            owner, colon, home = process.environ().get(VARIABLE, "").partition(":")
        except (psutil.Error, OSError):
            return None
        return cls(owner, Path(home)) if colon else None


def of_home(home: Path) -> list["psutil.Process"]:
    """Return the living processes marked with a home; not this process and those above it."""
    import psutil

    me = psutil.Process()
    above = {me.pid, *(parent.pid for parent in me.parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in above:
            continue
        mark = Mark.of(process)
        if mark is not None and mark.home == home and lives(process):
            found.append(process)
    return found


def named(pid_files: Iterable[Path]) -> list["psutil.Process"]:
    """Return the living processes that pid files name, by pid and start time, with their descendants."""
    import psutil

    found: dict[int, psutil.Process] = {}
    for file in pid_files:
        try:
            entry = json.loads(file.read_text())
            process = psutil.Process(int(entry["pid"]))
            if abs(process.create_time() - entry["started"]) > SAME_START_SECONDS or not lives(process):
                continue
            found.update({each.pid: each for each in (process, *process.children(recursive=True))})
        except (OSError, ValueError, KeyError, psutil.Error):
            continue  # gone, or a file that a crash left half-written
    found.pop(os.getpid(), None)
    return list(found.values())


def identity(pid: int) -> dict[str, float]:
    """Return what a pid file holds of a process: its pid and start time."""
    import psutil

    return {"pid": pid, "started": psutil.Process(pid).create_time()}


def lives(process: "psutil.Process") -> bool:
    """Tell whether a process runs; one that ended and waits for its parent doesn't."""
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def wait(processes: Iterable["psutil.Process"], seconds: float) -> list["psutil.Process"]:
    """Wait until all have ended or the time is over; return those that live."""
    deadline = time.monotonic() + seconds
    left = [process for process in processes if lives(process)]
    while left and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        left = [process for process in left if lives(process)]
    return left


def end(processes: Iterable["psutil.Process"], seconds: float) -> None:
    """Ask the processes to end, and kill those that live after `seconds`."""
    import psutil

    left = list(processes)
    for action, patience in (("terminate", seconds), ("kill", 5.0)):
        for process in left:
            try:
                getattr(process, action)()
            except psutil.Error:
                continue
        left = wait(left, patience)


def users_of(folder: Path) -> list["psutil.Process"]:
    """Return the processes, as far as this user may look, with a file open below a folder; not this one."""
    import psutil

    inside = f"{folder.resolve()}{os.sep}"
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and any(each.path.startswith(inside) for each in process.open_files()):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def describe(process: "psutil.Process") -> str:
    """Return a name by which a person finds a process."""
    import psutil

    try:
        command = " ".join(" ".join(process.cmdline()).split())
        return f"{process.name()} (pid {process.pid}: {command[:80]})"
    except psutil.Error:
        return f"pid {process.pid}"
