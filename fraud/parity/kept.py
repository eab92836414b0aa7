"""What the online store and the lake add to the topics: who was taken without a model, and the merchants' changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from fraud.backfill import Past
from fraud.builder import bulk_changes
from fraud.lake import open_lake, read, reading
from fraud.lake.tables import BACKFILL, PROFILE_CHANGES
from fraud.parity.columns import PARTITION_BITS, Numbers, source_of
from fraud.settings import Settings
from fraud.store import open_store
from fraud.store.base import PartitionKey


@dataclass(frozen=True)
class Kept:
    """What the online store remembers besides answers.

    Attributes:
        collected: partition → the offsets [a, b) that were accepted while there was no model, shape (n, 2).
        archived: whether the archive job, or a rebuild from its tables, has changed merchant profiles.
    """

    collected: Mapping[int, Numbers] = field(default_factory=dict)
    archived: bool = False

    def among(self, sources: Numbers) -> npt.NDArray[np.bool_]:
        """Tell which messages were collected, shape (n,)."""
        found = np.zeros(len(sources), bool)
        for partition, ranges in self.collected.items():
            if len(ranges):
                at = np.searchsorted(source_of(partition, ranges[:, 0]), sources, side="right") - 1
                inside = sources < source_of(partition, ranges[:, 1])[np.maximum(at, 0)]
                found |= (at >= 0) & inside & (sources >> PARTITION_BITS == partition)
        return found


def kept(settings: Settings, topic_id: str, partitions: int) -> Kept:
    """Read what the online store remembers; raises StoreError or ServiceError where it can't be read."""
    store = open_store(settings)
    try:
        keys = {number: PartitionKey(topic_id, number) for number in range(partitions)}
        return Kept(
            {number: store.histories.collected(key) for number, key in keys.items()},
            archived=store.profiles.applied() is not None,
        )
    finally:
        store.close()


def merchant_changes(settings: Settings, past: Past | None) -> pl.DataFrame | None:
    """Return every change of merchant profiles: the lake's, and of a past that was loaded without it its own.

    Their effective quarters are those that the archive job gave them. What is read after a row was scored can't
    matter to it: it became effective later, or the row is stale.

    Raises:
        ServiceError: the lake is away. DataError: its table is damaged.
    """
    lake = open_lake(settings)
    if lake.version(PROFILE_CHANGES) is None:
        return None
    table = lake.scan(PROFILE_CHANGES)
    changes = read.changes(table)
    with reading("the lake's table profile_changes"):
        loaded_there = not table.filter(pl.col("topic_id") == BACKFILL).head(1).collect().is_empty()
    if past is None or loaded_there:
        return changes
    return pl.concat([bulk_changes(past.transactions, past.labels), changes])
