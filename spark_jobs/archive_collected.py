"""Collect mode's acceptances: without a model there is no prediction, so the store's ranges say what was accepted."""

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from fraud.archive.changes import PLACE
from fraud.archive.index import Seen
from fraud.lake import Lake, reading
from fraud.lake.tables import TRANSACTIONS
from fraud.settings import Settings
from fraud.store.base import Histories, PartitionKey, Serving

COLUMNS = [*PLACE, "merchant_id", "timestamp"]
WAIT_SECONDS = 2.0  # for the score job to collect what this batch archives: no later batch may follow for long
POLL_SECONDS = 0.02
SCORE = "score"


@dataclass(frozen=True)
class Collected:
    """What the score job has accepted without a model and the clock hasn't seen."""

    settings: Settings
    lake: Lake
    histories: Histories
    serving: Serving
    seen: Seen

    def until(self, topic_id: str, ends: Mapping[int, int], batch: pl.DataFrame) -> pl.DataFrame:
        """Return the transactions below `ends` (partition → next offset) that were collected, in offset order.

        `batch` are the rows that were just archived; others are read from the lake.
        """
        if len(batch):
            self._wait(topic_id, ends)
        found = [batch.clear().select(COLUMNS)]
        for partition, end in sorted(ends.items()):
            wanted = self._wanted(PartitionKey(topic_id, partition), end)
            if len(wanted):
                found.append(self._rows(topic_id, partition, wanted, batch))
        return pl.concat(found)

    def _wanted(self, key: PartitionKey, end: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        ranges = self.histories.collected(key)
        parts = [
            self.seen.missing(key.topic_id, key.partition, int(first), min(int(last), end)) for first, last in ranges
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def _rows(
        self, topic_id: str, partition: int, wanted: "np.ndarray[tuple[int], np.dtype[np.int64]]", batch: pl.DataFrame
    ) -> pl.DataFrame:
        """Return the transactions at these offsets, from the batch if all are in it."""
        at = pl.lit(pl.Series(wanted)).implode()
        mine = (pl.col("topic_id") == topic_id) & (pl.col("partition") == partition) & pl.col("offset").is_in(at)
        here = batch.filter(mine)
        if len(here) < len(wanted):
            between = pl.col("offset").is_between(int(wanted[0]), int(wanted[-1]))
            with reading("the lake's table transactions"):
                here = self.lake.scan(TRANSACTIONS).filter(between & mine).collect()
        return here.sort("offset").select(COLUMNS)

    def _wait(self, topic_id: str, ends: Mapping[int, int]) -> None:
        """Give the score job a moment to collect up to `ends`, if it runs and has no model."""
        deadline = time.monotonic() + WAIT_SECONDS
        while self.serving.pointer() is None and time.monotonic() < deadline and self._runs():
            positions = self.histories.positions()
            if all(positions.get(PartitionKey(topic_id, part), end) >= end for part, end in ends.items()):
                return
            time.sleep(POLL_SECONDS)

    def _runs(self) -> bool:
        """Tell whether a score job may be alive: on this machine its process, elsewhere its lease."""
        import psutil

        held = self.histories.leases().get(SCORE)
        return held is not None and (held.host != socket.gethostname() or psutil.pid_exists(held.pid))
