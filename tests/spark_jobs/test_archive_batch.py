"""Every death between two steps of a batch, met exactly, without Spark: the batch is taken again by a new driver.

The lake is a folder and the online store LMDB: both are real, only the process goes on living.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from fraud import bus
from fraud.errors import StateError
from fraud.lake import Lake, open_lake, read
from fraud.lake.tables import LABELS, PREDICTIONS, PROFILE_CHANGES, REJECTIONS, TRANSACTIONS
from fraud.settings import Settings
from fraud.store import open_store
from fraud.store.base import Store
from spark_jobs.archive_batch import Archivist
from spark_jobs.archive_ends import Reached, write
from spark_jobs.archive_state import Batch
from tests.spark_jobs.archiving import NOW, Sent, answer, payment, totals, verdict

IDS = {topic: f"id-{topic}" for topic in (bus.TRANSACTIONS, bus.LABELS, bus.PREDICTIONS, bus.DLQ)}
STEPS = ["transactions", "labels", "predictions", "rejections", "profile_changes", "rejected", "applied"]
TABLES = (TRANSACTIONS, PREDICTIONS, LABELS, REJECTIONS, PROFILE_CHANGES)
Rejection = tuple[bytes | None, bytes]


class Died(Exception):
    """Stands for kill -9."""


class Topics:
    """Messages by topic, and batches of them; everything is in partition 0."""

    def __init__(self) -> None:
        self._next = dict.fromkeys(IDS, 0)

    def batch(self, *messages: Sent) -> pa.Table:
        """Return messages, and what a score job says of payments, as a micro-batch."""
        rows: list[tuple[str, int, Sent]] = []
        for message in messages:
            at = self._add(rows, message)
            if message.topic == bus.TRANSACTIONS:
                self._add(rows, answer(message, (0, at)))
        return self.rows(rows)

    def rows(self, rows: list[tuple[str, int, Sent]]) -> pa.Table:
        """Return messages at their offsets."""
        return pa.table(
            {
                "topic": pa.array([topic for topic, _, _ in rows], pa.string()),
                "partition": pa.array([0] * len(rows), pa.int32()),
                "offset": pa.array([offset for _, offset, _ in rows], pa.int64()),
                "broker_time": pa.array([NOW + offset for _, offset, _ in rows], pa.int64()),
                "key": pa.array([one.key for _, _, one in rows], pa.binary()),
                "value": pa.array([one.value for _, _, one in rows], pa.binary()),
            }
        )

    def _add(self, rows: list[tuple[str, int, Sent]], message: Sent) -> int:
        at = self._next[message.topic]
        self._next[message.topic] += 1
        rows.append((message.topic, at, message))
        return at


class Home:
    """A lake, a store, and the driver that works on both."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.settings = Settings.load({}, home=folder, lake_uri=str(folder / "lake"))
        self.store = store
        self.lake: Lake = open_lake(self.settings)
        self.published: list[Rejection] = []
        self.driver = self.start()

    def start(self, die_after: str | None = None) -> Archivist:
        """Return a new driver, which dies after a step, once."""
        left = [die_after]

        def fault(step: str) -> None:
            if left == [step]:
                left.clear()
                raise Died(step)

        self.driver = Archivist(self.settings, self.lake, self.store, IDS, self.published.extend, fault)
        return self.driver

    def take(self, at: Batch, rows: pa.Table) -> None:
        self.driver.take(at, rows, {0: rows.num_rows})

    def queries(self, *queries: str) -> None:
        write(self.lake, Reached("", -1, 0, IDS, {}, None, list(queries)))

    def kept(self) -> dict[str, list[dict[str, object]]]:
        """Return every table's rows, whoever wrote them."""
        named = {table.name: self.lake.scan(table).drop("query", "batch").collect() for table in TABLES}
        return {name: rows.sort("topic_id", "offset").to_dicts() for name, rows in named.items()}

    def profiles(self) -> dict[str, bytes]:
        return dict(self.store.profiles.merchants())


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[tuple[Home, Home]]:
    """Two of them: one that dies and one that doesn't."""
    stores = [open_store(Settings.load({}, home=tmp_path / name, store_url="lmdb:")) for name in "ab"]
    with closing(stores[0]), closing(stores[1]):
        yield Home(tmp_path / "a", stores[0]), Home(tmp_path / "b", stores[1])


def world() -> list[pa.Table]:
    """Return three batches: payments, labels of all kinds, and corrections."""
    topics = Topics()
    bad = Sent(bus.LABELS, b"u1", b"{")
    return [
        topics.batch(*(payment(n) for n in range(30)), verdict(40), verdict(3), bad),
        topics.batch(*(payment(n) for n in range(30, 60)), payment(5), verdict(3, False), verdict(7), verdict(8), bad),
        topics.batch(*(payment(n) for n in range(60, 70)), verdict(7, False, at=NOW - 1), verdict(8), verdict(99)),
    ]


@pytest.mark.parametrize("step", STEPS)
def test_a_batch_taken_again_after_a_death_leaves_what_an_undisturbed_one_does(
    homes: tuple[Home, Home], step: str
) -> None:
    dying, living = homes
    for number, rows in enumerate(world()):
        at = Batch("q", number)
        living.take(at, rows)
        with pytest.raises(Died):
            dying.start(step).take(at, rows, {0: rows.num_rows})
        dying.start().take(at, rows, {0: rows.num_rows})
    assert dying.kept() == living.kept()
    assert dying.profiles() == living.profiles()
    assert dying.store.profiles.applied() == "q/2"
    assert set(dying.published) == set(living.published), "a repeat is the same bytes"
    assert living.driver.take(Batch("q", 3), world()[0].slice(0, 0), {}).rows == {}


@pytest.mark.parametrize("step", STEPS)
def test_with_the_checkpoint_lost_in_the_middle_everything_still_counts_once(
    homes: tuple[Home, Home], step: str
) -> None:
    """A new query begins after what each table holds: what one has and another hasn't comes to count all the same."""
    dying, living = homes
    first, second, third = world()
    for number, rows in enumerate((first, second, third)):
        living.take(Batch("q", number), rows)
    dying.queries("q1")
    dying.take(Batch("q1", 0), first)
    with pytest.raises(Died):
        dying.start(step).take(Batch("q1", 1), second, {0: 0})
    dying.queries("q1", "q2")
    dying.start().take(Batch("q2", 0), beyond(dying.lake, second), {0: 0})
    dying.take(Batch("q2", 1), third)
    for name, rows in living.kept().items():
        mine = dying.kept()[name]
        if name == PROFILE_CHANGES.name:  # what becomes effective when may differ: profile_through was another's
            assert totals(pl.DataFrame(mine)) == totals(pl.DataFrame(rows))
        else:
            assert mine == rows
    changes = read.changes(dying.lake.scan(PROFILE_CHANGES))
    assert sum(len(raw) for raw in dying.profiles().values()) == 16 * len(changes)


def beyond(lake: Lake, rows: pa.Table) -> pa.Table:
    """Return what the lake's tables don't hold of a batch."""
    ends = {table.topic: lake.ends(table) for table in TABLES if table.topic}
    kept = [
        ends[topic].get((IDS[topic], 0), 0) <= offset
        for topic, offset in zip(rows["topic"].to_pylist(), rows["offset"].to_pylist(), strict=True)
    ]
    return rows.filter(pa.array(kept))


def test_a_store_that_lacks_what_the_lake_has_is_refused(homes: tuple[Home, Home]) -> None:
    home, _ = homes
    first, second, _ = world()
    home.take(Batch("q", 0), first)
    home.store.profiles.wipe()
    with pytest.raises(StateError, match="run `fraud-detect rebuild`"):
        home.start().take(Batch("q", 1), second, {0: 0})


def test_a_strangers_record_is_counted_and_nothing_more(homes: tuple[Home, Home]) -> None:
    home, _ = homes
    strange = Topics().batch(Sent(bus.PREDICTIONS, b"k", b"{}"), Sent(bus.DLQ, None, None))
    done = home.driver.take(Batch("q", 0), strange, {0: 0})
    assert (done.rows, done.strange, done.refused, done.through) == ({}, 2, 0, None)
