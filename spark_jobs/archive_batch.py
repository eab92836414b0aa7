"""One micro-batch of the archive job: into the lake's tables, into the merchants' profiles, each exactly once.

    four tables (app transactions) → profile_changes (app transaction) → the store's profiles (marker) → checkpoint

A death between any two of them is followed by the same batch again: what is in a table stays what it is, changes
that are in the lake are read back from there, and the store's marker tells whether they were applied.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from fraud import bus
from fraud.archive.changes import COLUMNS, by_merchant
from fraud.archive.clock import Step
from fraud.archive.records import DECODERS, Decoded, of_topic
from fraud.errors import StateError
from fraud.lake import Lake, reading
from fraud.lake.tables import PROFILE_CHANGES
from fraud.profiles import QUARTER_MS
from fraud.settings import Settings
from fraud.store.base import Store
from spark_jobs import archive_ends, archive_state
from spark_jobs.archive_collected import Collected
from spark_jobs.archive_refused import refusals
from spark_jobs.archive_state import Batch, State, accepted_of, frame

DAY_MS = 86_400_000
KEPT_DAYS = 38  # of changes before profile_through, besides the age limit: a window's 30 days, the seven before, one


@dataclass(frozen=True)
class Done:
    """What a batch did: rows per table, refused labels, records that nobody can read, seconds per part."""

    rows: dict[str, int]
    refused: int
    strange: int
    through: int | None
    parked: int
    seconds: dict[str, float]


@dataclass
class Archivist:
    """Takes batches one after another.

    Attributes:
        topic_ids: topic → its id.
        publish: sends rejections (key, value) to `transactions_dlq` and returns when the broker has them.
        fault: called with the name of each step that is done; tests end the process there.
    """

    settings: Settings
    lake: Lake
    store: Store
    topic_ids: Mapping[str, str]
    publish: Callable[[list[tuple[bytes | None, bytes]]], None]
    fault: Callable[[str], None] = field(default=lambda _step: None)
    _state: State | None = None

    def take(self, at: Batch, rows: pa.Table, ends: Mapping[int, int]) -> Done:
        """Archive a batch; called again with the same one it does what is left of it.

        Args:
            rows: topic, partition, offset, broker_time (ms), key, value.
            ends: partition → the next offset of `transactions` after the batch.

        Raises:
            ServiceError: S3, Kafka or the store is away. StateError: store and lake don't continue each other.
        """
        watch = _Watch()
        decoded = _decode(rows, self.topic_ids)
        watch.lap("decode")
        state = self._state or self._load(at)
        self._state = None  # whoever fails below begins with what the lake says
        watch.lap("load")
        self._append(at, decoded)
        watch.lap("append")
        step = self._weigh(at, state, decoded, ends, _newest(rows))
        watch.lap("changes")
        refused = refusals(self.settings, self.topic_ids[bus.LABELS], rows, decoded[bus.LABELS].refused, step.expired)
        if refused:
            self.publish(refused)
        self.fault("rejected")
        watch.lap("reject")
        through = max(
            (each for each in (step.through, self.store.profiles.through()) if each is not None), default=None
        )
        self._apply(at, step.changes, through)
        self.fault("applied")
        watch.lap("apply")
        self._state = State(state.clock, [], state.accepted.clear(), state.labels.clear())
        counts = {topic: len(each.rows) for topic, each in decoded.items() if len(each.rows)}
        strange = sum(each.strange for each in decoded.values())
        return Done(counts, len(refused), strange, through, state.clock.parked, watch.seconds)

    def _load(self, at: Batch) -> State:
        """Read the state before the batch, and apply what the store hasn't got of earlier ones."""
        parking = round(self.settings.label_parking_days * DAY_MS)
        known = archive_ends.read(self.lake)
        queries = [] if known is None else known.queries
        state = archive_state.load(self.lake, at, parking_ms=parking, topic_ids=dict(self.topic_ids), queries=queries)
        applied = self.store.profiles.applied()
        markers = [each.marker for each in state.changed]
        if not markers or applied in (markers[-1], at.marker):
            return state
        if applied not in markers:
            raise StateError(
                f"the merchants' profiles in the online store end with the batch {applied or '(none)'}, the lake's "
                f"with {markers[-1]}: the store is another one, or an older copy; run `fraud-detect rebuild`"
            )
        for each in state.changed[markers.index(applied) + 1 :]:
            self._write(self._changes(each), state.clock.through, self.store.profiles.applied(), each.marker)
        return state

    def _append(self, at: Batch, decoded: Mapping[str, Decoded]) -> None:
        """Append each topic's rows to its table, side by side: most of the time goes by waiting for S3."""

        def append(topic: str) -> None:
            if len(decoded[topic].rows):
                self.lake.append(DECODERS[topic][0], decoded[topic].rows, query=at.query, batch=at.number)
            self.fault(DECODERS[topic][0].name)

        with ThreadPoolExecutor(len(decoded)) as pool:
            list(pool.map(append, decoded))

    def _weigh(
        self, at: Batch, state: State, decoded: Mapping[str, Decoded], ends: Mapping[int, int], now: int
    ) -> Step:
        """Let the clock take the batch, and write down what changes; what was written before is read back."""
        labels = pl.concat([state.labels, frame(decoded[bus.LABELS].rows)], how="diagonal")
        written = self.lake.written(PROFILE_CHANGES, at.query)
        if written is not None and written >= at.number:
            changes = self._changes(at)
            step = state.clock.step(changes.filter(pl.col("transactions") == 1), labels, now=now)
            return Step(changes.select(COLUMNS), step.expired, step.through)
        predicted = accepted_of(frame(decoded[bus.PREDICTIONS].rows), dict(self.topic_ids))
        collected = Collected(self.settings, self.lake, self.store.histories, self.store.serving, state.clock.seen)
        without = collected.until(self.topic_ids[bus.TRANSACTIONS], ends, frame(decoded[bus.TRANSACTIONS].rows))
        accepted = pl.concat([state.accepted, predicted, without], how="diagonal")
        step = state.clock.step(accepted, labels, now=now, through=self.store.profiles.through())
        if len(step.changes):
            self.lake.append(PROFILE_CHANGES, step.changes.to_arrow(), query=at.query, batch=at.number)
        self.fault("profile_changes")
        return step

    def _changes(self, at: Batch) -> pl.DataFrame:
        """Read back what a batch changed."""
        mine = (pl.col("query") == at.query) & (pl.col("batch") == at.number)
        with reading("the lake's table profile_changes"):
            return self.lake.scan(PROFILE_CHANGES).filter(mine).collect()

    def _apply(self, at: Batch, changes: pl.DataFrame, through: int | None) -> None:
        """Apply a batch's changes unless they were; a batch without any leaves no trace in the store."""
        applied = self.store.profiles.applied()
        if len(changes) and applied != at.marker:
            self._write(changes, through, applied, at.marker)

    def _write(self, changes: pl.DataFrame, through: int | None, expected: str | None, applied: str) -> None:
        days = self.settings.max_age_days
        keep_from = None
        if days is not None and through is not None:
            keep_from = through - round((KEPT_DAYS + days) * DAY_MS / QUARTER_MS)
        self.store.profiles.apply(
            by_merchant(changes), through, expected=expected, applied=applied, keep_from=keep_from
        )


class _Watch:
    """Seconds per part of a batch."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, part: str) -> None:
        """Give a part the time since the last one's end."""
        now = time.monotonic()
        self.seconds[part], self._last = round(now - self._last, 3), now


def _decode(rows: pa.Table, topic_ids: Mapping[str, str]) -> dict[str, Decoded]:
    """Return topic → its rows; a topic without records has none."""
    return {topic: decode(of_topic(rows, topic, topic_ids[topic])) for topic, (_, decode) in DECODERS.items()}


def _newest(rows: pa.Table) -> int:
    return int(pc.max(rows["broker_time"]).as_py() or 0)
