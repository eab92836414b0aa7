"""How a store tells that a backfill began in it and didn't end: by a lease that only its end gives back."""

from fraud.store.base import Store

MARKER = "backfill"  # the lease's name


def unfinished(store: Store) -> str | None:
    """Return the words for a store in which a backfill began and didn't end, None where there is none."""
    left = store.histories.leases().get(MARKER)
    if left is None:
        return None
    return (
        f"a backfill (pid {left.pid} on {left.host}) didn't finish: the online store holds part of a past; "
        "load it again with `fraud-detect backfill DIR --wipe`"
    )
