"""The leases that a backfill holds while it writes, and how they are prolonged as it goes on."""

import os
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from fraud.store.base import Histories, Lease
from fraud.store.leases import ARCHIVE, SCORE

TTL_MS = 60_000
RENEW_MS = 10_000
HELD = (SCORE, ARCHIVE)  # the leases of those who write what a backfill writes

Clock = Callable[[], int]  # ms since the epoch
Item = TypeVar("Item")


class Holding:
    """The jobs' leases in our hands, prolonged as the load goes on."""

    def __init__(self, histories: Histories, clock: Clock) -> None:
        self._histories, self._clock = histories, clock
        self._leases: dict[str, Lease] = {}
        self._renewed = clock()

    def take(self, name: str) -> None:
        """Take a lease; FencedError if a job that runs holds it."""
        self._leases[name] = take(self._histories, name, self._clock)

    def lease(self, name: str) -> Lease:
        """Return a lease as it was last prolonged."""
        return self._leases[name]

    def while_loading(self, rows: Iterable[Item]) -> Iterator[Item]:
        """Yield the rows, and prolong the leases in between; raises FencedError if one is lost."""
        for row in rows:
            self.renew_in_time()
            yield row
        self.renew()

    def renew_in_time(self) -> None:
        """Prolong the leases if a while has passed since the last time."""
        if self._clock() - self._renewed > RENEW_MS:
            self.renew()

    def renew(self) -> None:
        """Prolong the leases now."""
        self._renewed = self._clock()
        for name, lease in self._leases.items():
            self._leases[name] = self._histories.renew(lease, now=self._renewed, ttl=TTL_MS)

    def release(self) -> None:
        """Give the leases back."""
        for lease in self._leases.values():
            self._histories.release(lease)


@contextmanager
def held(histories: Histories, clock: Clock) -> Iterator[Holding]:
    """Hold the leases of `HELD` for as long as the block lasts."""
    holding = Holding(histories, clock)
    try:
        for name in HELD:
            holding.take(name)
        yield holding
    finally:
        holding.release()


def take(histories: Histories, name: str, clock: Clock, ttl: int = TTL_MS) -> Lease:
    """Take a lease for this process."""
    owner = uuid.uuid4().hex
    return histories.acquire(name, owner, host=socket.gethostname(), pid=os.getpid(), now=clock(), ttl=ttl)
