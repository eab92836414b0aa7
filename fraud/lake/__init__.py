"""The lake: what the topics said, kept for good in Delta tables on S3.

    lake = open_lake(settings)
    lake.append(LABELS, rows, query=query, batch=7)   # False where batch 7 is in the table already
    cut = lake.cut()                                  # {"labels": 12, …}
    with reading("the lake's labels"):
        lake.at(LABELS, cut).collect()                # the same rows for as long as the cut is kept

Delivery: each batch of a query once, however often it is appended again; one after another per query and table.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from fraud.errors import DataError
from fraud.lake import upkeep, writing
from fraud.lake.faults import CURE, reading
from fraud.lake.place import RETRIES, Place, place_of
from fraud.lake.tables import BACKFILL, TABLES, Table
from fraud.settings import Settings

__all__ = ["Lake", "Place", "open_lake", "reading"]

DATASETS = "datasets"  # training sets, each with the manifest that holds its cut (`fraud.dataset`)
ARCHIVE = "_archive"  # what the archive job remembers besides its tables

Say = Callable[[str], None]


def open_lake(settings: Settings) -> "Lake":
    """Return the lake that FRAUD_LAKE_URI names; nothing is reached before it is used."""
    return Lake(place_of(settings))


class Lake:
    """The lake's tables. Every method raises ServiceError where S3 is away, DataError where a table is damaged."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def append(self, table: Table, rows: pa.Table, *, query: str, batch: int) -> bool:
        """Append a batch unless it was before; tell whether it was written now.

        Args:
            rows: with the table's columns; `date`, `query` and `batch` are filled in where absent.
            query, batch: together the batch's name; a query's numbers must grow from batch to batch. Without rows
                nothing is written and nothing remembered.

        Raises:
            DataError: the rows aren't the table's.
        """
        if not len(rows):
            return False
        shaped = writing.shaped(table, rows, query=query, batch=batch)
        delta = self._open(table) or writing.create(self.place, table)
        newest = delta.transaction_version(writing.mark(table, query))
        if newest is not None and newest >= batch:
            return False
        writing.commit(delta, table, shaped, query=query, batch=batch)
        return True

    def written(self, table: Table, query: str) -> int | None:
        """Return the newest batch of a query in a table."""
        delta = self._open(table)
        return None if delta is None else delta.transaction_version(writing.mark(table, query))

    def version(self, table: Table) -> int | None:
        """Return the table's newest Delta version, None where there is no table yet."""
        delta = self._open(table)
        return None if delta is None else int(delta.version())

    def cut(self) -> dict[str, int]:
        """Return each table's name → its newest version; tables that aren't there yet are left out."""
        versions = {table.name: self.version(table) for table in TABLES}
        return {name: version for name, version in versions.items() if version is not None}

    def scan(self, table: Table, *, version: int | None = None) -> pl.LazyFrame:
        """Return the table's rows as of a version (None: the newest), an empty frame where there is no table.

        Columns and types are the table's; times are Datetime("us", "UTC"). Files that are missing or cut short
        are found here, before anything is read; collect the frame inside `reading`.
        """
        delta = self._open(table, version)
        if delta is None:
            return _empty(table)
        self._check_files(table, delta)
        with reading(f"the lake's table {self._uri(table)}"):
            # polars adds delta-rs's options to these, and wants this one as a number.
            return pl.scan_delta(delta, storage_options={"max_retries": RETRIES} if self.place.options else None)

    def at(self, table: Table, cut: Mapping[str, int]) -> pl.LazyFrame:
        """Return the table's rows in a cut: none where the table wasn't there yet."""
        return self.scan(table, version=cut[table.name]) if table.name in cut else _empty(table)

    def ends(self, table: Table) -> dict[tuple[str, int], int]:
        """Return each (topic id, partition) → the offset after the newest one in the table."""
        newest = (
            self.scan(table)
            .filter(pl.col("topic_id") != BACKFILL)
            .group_by("topic_id", "partition")
            .agg(pl.col("offset").max() + 1)
        )
        with reading(f"the lake's table {self._uri(table)}"):
            rows = newest.collect().rows()
        return {(topic, partition): end for topic, partition, end in rows}

    def compact(self, table: Table) -> int:
        """Write the table's small files of a day into one; return how many went. Its rows stay what they are."""
        delta = self._open(table)
        if delta is None:
            return 0
        with reading(f"the lake's table {self._uri(table)}"):
            return upkeep.compact(delta)

    def maintain(
        self, *, now: datetime, cut_days: float, grace: timedelta = upkeep.GRACE, say: Say = lambda _words: None
    ) -> dict[str, upkeep.Upkept]:
        """Compact every table and remove the files that nothing refers to any more; return what was done to each.

        What stays: every file of the newest version, of each version that a training set's cut of the last
        `cut_days` names, and whatever was replaced within `grace`: somebody may be reading it, or building a
        training set whose manifest isn't written yet. Log entries stay all.

        Raises:
            DataError: a manifest can't be read, so that it isn't known what it refers to; nothing was removed.
        """
        kept = upkeep.versions_in_use(self.place, DATASETS, now - timedelta(days=cut_days))
        done = {}
        for table in TABLES:
            delta = self._open(table)
            if delta is None:
                continue
            with reading(f"the lake's table {self._uri(table)}"):
                done[table.name] = upkeep.maintain(
                    self.place, delta, table.name, sorted(kept.get(table.name, ())), grace
                )
            say(f"{table.name}: {done[table.name].words()}")
        return done

    def wipe(self) -> None:
        """Remove every table, the training sets made of them and what the archive job remembers."""
        for folder in (DATASETS, ARCHIVE, *(table.name for table in TABLES)):
            self.place.remove(folder)

    def _uri(self, table: Table) -> str:
        return f"{self.place.uri}/{table.name}"

    def _open(self, table: Table, version: int | None = None) -> DeltaTable | None:
        uri = self._uri(table)
        with reading(f"the lake's table {uri}"):
            try:
                delta = DeltaTable(uri, storage_options=dict(self.place.options))
            except TableNotFoundError:
                if version is None:
                    return None
                raise
            if version is not None and version != delta.version():
                if version > delta.version():
                    raise DataError(f"the lake's table {uri} has no version {version}; its newest is {delta.version()}")
                delta.load_as_version(version)
            return delta

    def _check_files(self, table: Table, delta: DeltaTable) -> None:
        """Compare the files with what the log says of them: polars panics where one is shorter."""
        added = pa.table(delta.get_add_actions(flatten=True))
        logged = dict(zip(added["path"].to_pylist(), added["size_bytes"].to_pylist(), strict=True))
        # Day by day: the log's own folder has an entry for every commit ever made.
        there = {
            f"{day}/{name}": size
            for day in sorted({path.rpartition("/")[0] for path in logged})
            for name, size in self.place.sizes(f"{table.name}/{day}").items()
        }
        for path, size in logged.items():
            found = there.get(path)
            if found != size:
                what = "is missing" if found is None else f"has {found} bytes of {size}: it was cut short"
                raise DataError(f"the lake's file {self._uri(table)}/{path} {what}; {CURE}")


def _empty(table: Table) -> pl.LazyFrame:
    frame = pl.from_arrow(table.schema.empty_table())
    assert isinstance(frame, pl.DataFrame)  # noqa: S101  # from a table, not from an array
    return frame.lazy()
