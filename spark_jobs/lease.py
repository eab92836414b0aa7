"""The driver's right to write: taken once, renewed by a thread, given back at the end."""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable

from fraud.errors import FencedError, FraudError, ServiceError, StoreError
from fraud.store.base import Histories, Lease

_LOG = logging.getLogger(__name__)
NAME = "score"
TTL_MS = 10_000
RENEW_SECONDS = 3.0


def acquire(
    histories: Histories,
    *,
    clock: Callable[[], int],
    sleep: Callable[[float], None] = time.sleep,
    name: str = NAME,
) -> Lease:
    """Take the lease; wait out a holder that has died, refuse beside one that lives.

    A living holder renews every three seconds, which moves its end; a dead one's end stands still.

    Raises:
        FencedError: another such job is running; the message names host and pid.
    """
    owner = uuid.uuid4().hex
    seen: int | None = None
    while True:
        try:
            return histories.acquire(name, owner, host=socket.gethostname(), pid=os.getpid(), now=clock(), ttl=TTL_MS)
        except FencedError:
            held = histories.leases().get(name)
            if held is not None and seen is not None and held.expires_at != seen:
                raise
            seen = held.expires_at if held is not None else seen
        sleep(0.25)


class Renewal:
    """Renews a lease in a thread; `lost` is called once, with the error, if it can't."""

    def __init__(
        self, histories: Histories, lease: Lease, clock: Callable[[], int], lost: Callable[[FraudError], None]
    ) -> None:
        self._histories, self.lease, self._clock, self._lost = histories, lease, clock, lost
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop renewing and give the lease back; one that can't be given back ends by itself."""
        self._end.set()
        self._thread.join(RENEW_SECONDS)
        try:
            self._histories.release(self.lease)
        except FraudError as exc:  # raised from here it would hide why the job ends
            _LOG.warning(
                "the lease %s couldn't be given back, it ends in %d s: %s", self.lease.name, TTL_MS // 1_000, exc
            )

    def _run(self) -> None:
        while not self._end.wait(RENEW_SECONDS):
            try:
                self.lease = self._histories.renew(self.lease, now=self._clock(), ttl=TTL_MS)
            except FencedError as exc:
                self._lost(exc)
                return
            except (StoreError, ServiceError) as exc:
                # The store may be back before the lease ends; after that the fence decides, not this clock.
                if self._clock() > self.lease.expires_at:
                    self._lost(exc)
                    return
