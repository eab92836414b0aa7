"""How a store tells that a load of it began and didn't end: by a lease that only the load's end gives back."""

import os
import socket
import uuid
from typing import Literal

from fraud.store.base import Lease, Store

MARKER = "backfill"  # the lease's name, whoever loads: there is one load at a time

_REBUILD = "rebuild/"  # how the owner's name begins


def begin_rebuild(store: Store, now: int) -> Lease:
    """Mark the store as being rebuilt; the caller holds the jobs' leases, so a marker there is a broken load's."""
    owner = _REBUILD + uuid.uuid4().hex
    return store.histories.acquire(MARKER, owner, host=socket.gethostname(), pid=os.getpid(), now=now, ttl=0)


def broken(store: Store) -> Literal["backfill", "rebuild"] | None:
    """Return which kind of load began in the store and didn't end."""
    left = store.histories.leases().get(MARKER)
    if left is None:
        return None
    return "rebuild" if left.owner.startswith(_REBUILD) else "backfill"


def unfinished(store: Store) -> str | None:
    """Return the words for a store in which a load began and didn't end, None where there is none."""
    left = store.histories.leases().get(MARKER)
    if left is None:
        return None
    cure = "run `fraud-detect rebuild` again"
    if not left.owner.startswith(_REBUILD):
        cure = "load it again with `fraud-detect backfill DIR --wipe`"
    what = "rebuild" if left.owner.startswith(_REBUILD) else "backfill"
    return f"a {what} (pid {left.pid} on {left.host}) didn't finish: the online store holds part of a past; {cure}"
