"""The Python side of a micro-batch: one task is one slice of one Kafka partition.

A slice is collected whole, in offset order, and yields nothing before its commit: what left for Kafka is in
the store. Handles and models live in the worker process and are kept between micro-batches; they are opened
after the fork, since an LMDB environment doesn't survive one.
"""

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraud import bus, features, history, profiles
from fraud.decision import Model, Slice, Terms
from fraud.errors import GapError, StateError
from fraud.forest import no_forest, take_over
from fraud.scoring import score_slice
from fraud.settings import Settings
from fraud.store import open_store
from fraud.store.base import Answers, PartitionKey, Store

# The contract of the job's two ends (design.md, section 5).
INPUT = ("key", "value", "partition", "offset", "broker_time")
OUTPUT = "topic string, key binary, value binary"
_OUTPUT = pa.schema([("topic", pa.string()), ("key", pa.binary()), ("value", pa.binary())])

# A batch of answers for the JVM: large enough to be cheap, small enough that 64 KiB rejections fit.
CHUNK_ROWS = 10_000
CHUNK_BYTES = 16 << 20
# A reused worker looks again for readers that were killed; a look costs microseconds.
READERS_SECONDS = 10.0

Batches = Iterable[pa.RecordBatch]


@dataclass(frozen=True)
class TaskConfig:
    """What a task knows besides its rows; pickled once, when the query starts."""

    settings: Settings  # the store's part only, with an absolute home: a worker has another folder
    topic: str
    topic_id: str
    predictions: str
    rejections: str
    epoch: int
    max_age_ms: int | None
    # Called with a step and ids: fraud.decision.Terms' steps, and "yielded" with a chunk's number when it has left.
    fault: Callable[[str, Sequence[str]], None] = field(default=lambda _step, _ids: None)


@dataclass
class _Process:
    """What this worker process keeps between tasks."""

    stores: dict[str, Store] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    checked: float = field(default_factory=time.monotonic)  # when killed readers were last looked for; opening looks

    def store(self, settings: Settings) -> Store:
        """Return the open store, opened by the first task after the fork; at times free killed readers' slots."""
        key = f"{settings.store_url} {settings.home}"
        if key not in self.stores:
            self.stores[key] = open_store(settings)
            gc.freeze()
        if time.monotonic() - self.checked >= READERS_SECONDS:
            self.stores[key].check_readers()
            self.checked = time.monotonic()
        return self.stores[key]

    def model(self, store: Store) -> Model | None:
        """Return the model in production, read once per task, None before any; the last two stay for a rollback."""
        from fraud.model import Bundle, Scorer

        pointer = store.serving.pointer()
        if pointer is None:
            if self.models:  # not a beginning: going on without would leave transactions undecided
                raise StateError("the online store lost its model; `fraud-detect promote` gives it one")
            return None
        known = self.models.get(pointer.sha256)
        if known is None:
            while len(self.models) >= 2:
                del self.models[next(iter(self.models))]
            bundle = Bundle.from_bytes(store.serving.bundle(pointer.sha256))
            known = Model(Scorer(bundle, take_over), pointer)
            self.models[pointer.sha256] = known
            gc.collect()
            gc.freeze()
        return Model(known.scorer, pointer)


_process = _Process()


class _Rows(NamedTuple):
    """A task's rows as columns."""

    keys: list[bytes | None]
    values: list[bytes | None]
    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    broker_times: npt.NDArray[np.int64]  # ms since the epoch


def answer(config: TaskConfig) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function for `mapInArrow`: INPUT's columns in, topic, key and value out."""

    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = _collect(batches)
        if len(rows.offsets):
            yield from _answer(rows, config)

    return task


def _answer(rows: _Rows, config: TaskConfig) -> Iterator[pa.RecordBatch]:
    """Score one slice, then yield its answers; a task is an entry point, so the clock is read here."""
    part = _slice(rows, config)
    store = _process.store(config.settings)
    terms = Terms(config.epoch, config.max_age_ms, partial(_check_gap, config, part.key.partition), config.fault)
    answers = score_slice(part, store, _process.model(store), terms, now_ms=time.time_ns() // 1_000_000)
    for number, chunk in enumerate(_chunks(answers, config)):
        yield chunk
        config.fault("yielded", (str(number),))


def _check_gap(config: TaskConfig, partition: int, position: int, first: int) -> None:
    """Raise GapError if the broker holds a record that the store never decided, in [position, first)."""
    found = bus.readable_between(config.settings.kafka_bootstrap, config.topic, partition, position, first)
    if found is not None:
        raise GapError(
            f"{config.topic}, partition {partition}: the slice begins at offset {first}, the store has decided up "
            f"to {position} only, and the topic holds offset {found} between: the store is an older copy. "
            "Make it anew with `fraud-detect rebuild`"
        )


def _slice(rows: _Rows, config: TaskConfig) -> Slice:
    """Check that the rows are one partition's in offset order: fences and histories rest on it."""
    partition = int(rows.partitions[0])
    if (rows.partitions != partition).any() or (np.diff(rows.offsets) <= 0).any():
        raise StateError("a task got rows of several partitions or out of order; is minPartitions set?")
    return Slice(
        key=PartitionKey(config.topic_id, partition),
        topic=config.topic,
        offsets=rows.offsets,
        keys=rows.keys,
        values=rows.values,
        broker_times=rows.broker_times,
    )


def _collect(batches: Batches) -> _Rows:
    """Read every Arrow batch of the task; Spark splits a slice by rows and bytes."""
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    numbers: list[tuple[Any, Any, Any]] = []
    for batch in batches:
        keys.extend(_bytes(batch.column(0)))
        values.extend(_bytes(batch.column(1)))
        numbers.append(tuple(batch.column(i).to_numpy(zero_copy_only=False) for i in (2, 3, 4)))
    if not numbers:
        return _Rows(keys, values, np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int64))
    return _Rows(keys, values, *(np.concatenate(column) for column in zip(*numbers, strict=True)))


def _bytes(column: pa.BinaryArray) -> list[bytes | None]:
    """Return a binary column's values; slices of one copy, ten times cheaper than `to_pylist`."""
    if column.null_count:
        return column.to_pylist()  # type: ignore[no-any-return]
    if not len(column):
        return []
    _, bounds, data = column.buffers()
    ends = np.frombuffer(bounds, np.int32)[column.offset : column.offset + len(column) + 1].tolist()
    raw = b"" if data is None else data.to_pybytes()
    return [raw[a:b] for a, b in pairwise(ends)]


def _chunks(answers: Answers, config: TaskConfig) -> Iterator[pa.RecordBatch]:
    """Yield the answers as Arrow batches of bounded size, in offset order."""
    names = pa.array([config.predictions, config.rejections])
    sizes = np.cumsum(np.fromiter(map(len, answers.values), np.int64, len(answers)))
    start = 0
    while start < len(answers):
        before = int(sizes[start - 1]) if start else 0
        fitting = int(np.searchsorted(sizes, before + CHUNK_BYTES, side="right"))
        end = min(max(fitting, start + 1), start + CHUNK_ROWS, len(answers))
        yield pa.RecordBatch.from_arrays(
            [
                names.take(pa.array(answers.kinds[start:end])),
                pa.array(answers.keys[start:end], pa.binary()),
                pa.array(answers.values[start:end], pa.binary()),
            ],
            schema=_OUTPUT,
        )
        start = end


def warm() -> None:
    """Load the compiled kernels, so that the first task finds them; starts no thread, opens nothing."""
    bounds = np.array([0, 1], np.int64)
    events = np.zeros(1, history.EVENT)
    folded = features.fold(events, bounds, history.unpack([None]))
    features.add_merchant_features(folded.matrix, events["time"], np.zeros(1, np.int64), profiles.unpack([None]))
    no_forest().margins(np.zeros((1, 1)))
