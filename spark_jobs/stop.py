"""How the job is told to end: by a signal, or by an error that one of its threads met."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fraud.errors import FraudError

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def held_back() -> Iterator[None]:
    """Let SIGTERM and SIGINT wait until the block has ended, and then have their effect.

    For what an interruption would leave half done, and for imports: Python forgets one that meets a callback there.
    """
    told: list[int] = []
    before = {number: signal.signal(number, lambda number, _frame: told.append(number)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if told:
        signal.raise_signal(told[0])


class Stop:
    """A request to end, with the error that caused it, if one did; the first one counts.

    Until `ready` is called there is nothing to end in order, so a signal interrupts whatever start-up waits
    for (a JVM, a broker, a lease); afterwards it is a flag that the job looks at.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.error: FraudError | None = None
        self._starting = True

    def because(self, error: FraudError) -> None:
        """End with an error."""
        if not self.event.is_set():
            self.error = error
        self.event.set()

    def ready(self) -> None:
        """Say that the query runs: from now on it is ended in order."""
        self._starting = False

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """End on SIGTERM and SIGINT while the block lasts; it swallows the interruption of a start.

        Only the first signal counts: what follows it takes seconds and must not be left half done.
        """
        before = {number: signal.signal(number, self._signalled) for number in SIGNALS}
        try:
            yield
        except KeyboardInterrupt:  # ours, or the one pyspark raises while it has the handler
            self.event.set()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _signalled(self, *_: object) -> None:
        again = self.event.is_set()
        self.event.set()
        if self._starting and not again:
            raise KeyboardInterrupt
