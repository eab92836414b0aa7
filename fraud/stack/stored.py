"""What the stack may know of the online store, without making one where there is none."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fraud.settings import Settings
from fraud.store import open_store
from fraud.store.base import Lease, Store


def store_folder(settings: Settings) -> Path | None:
    """Return the folder of an LMDB store, None for a store of another kind.

    >>> store_folder(Settings.load({"FRAUD_STORE_URL": "redis://127.0.0.1:6379/0"})) is None
    True
    """
    scheme, _, rest = settings.store_url.partition(":")
    if scheme != "lmdb":
        return None
    return (Path(rest) if rest else settings.data / "store").absolute()


@contextmanager
def opened(settings: Settings) -> Iterator[Store | None]:
    """Open the store for as long as the block lasts; None if it is an LMDB store that nobody has made.

    Raises:
        StoreError, ServiceError: as its first use.
    """
    folder = store_folder(settings)
    if folder is not None and not (folder / "histories" / "data.mdb").exists():
        yield None
        return
    store = open_store(settings)
    try:
        yield store
    finally:
        store.close()


def is_held(lease: Lease, now: int) -> bool:
    """Tell whether a lease is with a process that lives, or may live on another machine; `now` in ms."""
    import psutil

    if lease.expires_at <= now:
        return False
    return lease.host != socket.gethostname() or psutil.pid_exists(lease.pid)
