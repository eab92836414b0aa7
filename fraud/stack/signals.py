"""Ctrl-C, SIGTERM and SIGHUP while servers are started and stopped: each ends it in order, none in the middle."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# An impatient second Ctrl-C comes within this time; by then the stopping has begun, where none counts.
ONE_SECONDS = 2.0


@contextmanager
def interruptible() -> Iterator[None]:
    """Let each of these signals raise KeyboardInterrupt; those that follow within two seconds don't.

    So what cleans up after the first isn't interrupted before it reaches `uninterrupted`.
    """
    last = -ONE_SECONDS

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before >= ONE_SECONDS:
            raise KeyboardInterrupt

    with _handled(interrupt):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore these signals as long as the block lasts, which must be bounded."""
    with _handled(lambda _number, _frame: None):
        yield


@contextmanager
def _handled(handler: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only
        return
    before = {}
    try:
        for number in ENDING:
            # Under nohup the terminal's end is none of our business.
            if not (number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN):
                before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, handled in before.items():
            signal.signal(number, handled)
