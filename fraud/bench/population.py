"""More users than were simulated, or users with longer histories, out of the same transactions."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from msgspec.structs import replace

from fraud import bus, history
from fraud.store.base import Histories

if TYPE_CHECKING:
    from fraud.bench.load import Message


@dataclass(frozen=True)
class Population:
    """How the simulated users are multiplied.

    Attributes:
        copies: of each user; every copy has the user's history, and each message is one's of them, drawn at random.
        longer: how many times every entry stands in its history, the last 512 of them. Messages come in as many times
            less of their own time, so that histories keep their length.
    """

    copies: int = 1
    longer: int = 1

    def messages(self, rows: pl.DataFrame) -> "Iterator[Message]":
        """Yield a message for each transaction."""
        from fraud.codec import encode
        from producer.replay import transactions

        drawn = np.random.default_rng(0).integers(0, self.copies, len(rows)).tolist()
        for transaction, number in zip(transactions(_quicker(rows, self.longer)), drawn, strict=True):
            user = _copy(transaction.user_id, number)
            yield user.encode(), encode(replace(transaction, user_id=user) if number else transaction)

    def grow(self, histories: Histories, partitions: int) -> None:
        """Lengthen the stored histories and give each copy its user's; the disk has all of it when this returns."""
        if self == PLAIN:
            return
        stored = (pair for partition in range(partitions) for pair in histories.users(partition))
        known = {user: _longer(raw, self.longer) for user, raw in stored}
        for number in range(self.copies):
            placed: dict[int, list[tuple[str, bytes]]] = {partition: [] for partition in range(partitions)}
            for user, raw in known.items():
                name = _copy(user, number)
                placed[bus.partition_of(name, partitions)].append((name, raw))
            for partition, rows in placed.items():
                histories.load(partition, rows)
        os.sync()


PLAIN = Population()


def _copy(user: str, number: int) -> str:
    """Name a user's copy; the first is the user."""
    return f"{user}~{number}" if number else user


def _quicker(rows: pl.DataFrame, times: int) -> pl.DataFrame:
    """Return the rows with as many times less time since the first."""
    at = pl.col("timestamp").dt.epoch("ms")
    return rows.with_columns((at.min() + (at - at.min()) // times).cast(rows.schema["timestamp"]).alias("timestamp"))


def _longer(packed: bytes, times: int) -> bytes:
    """Return a history in which each entry stands so many times, every one a transaction of its own."""
    known = history.unpack([packed])
    entries = np.repeat(known.entries, times)[-history.MAX_ENTRIES :]
    entries["txn"] += np.arange(len(entries), dtype=np.uint64)
    return history.pack(int(known.newest[0]), entries)
