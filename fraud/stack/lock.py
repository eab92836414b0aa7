"""One command at a time: an advisory lock on a file, given back by the system when its holder dies."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fraud.errors import StateError

POLL_SECONDS = 0.1


@contextmanager
def alone(path: Path, seconds: float, what: str) -> Iterator[None]:
    """Hold the lock as long as the block lasts; wait for it for as long as `seconds`.

    Raises:
        StateError: another command holds it; `what` says what that one does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + seconds
    with path.open("a") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as exc:
                if time.monotonic() >= deadline:
                    raise StateError(f"another command {what} just now; try again when it has ended") from exc
            time.sleep(POLL_SECONDS)
        yield
