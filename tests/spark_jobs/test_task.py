"""A task's two ends: Arrow batches in, one slice, bounded batches out."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from fraud.errors import StateError
from fraud.settings import Settings
from fraud.store.base import Answers
from fraud.store.memory import open_memory
from spark_jobs import task

CONFIG = task.TaskConfig(
    settings=Settings.load({}),
    topic="transactions",
    topic_id="id-1",
    predictions="fraud_predictions",
    rejections="transactions_dlq",
    epoch=1,
    max_age_ms=None,
)


def batch(
    values: Sequence[bytes | None],
    offsets: Sequence[int],
    partition: int = 0,
    keys: Sequence[bytes | None] | None = None,
) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [
            pa.array(values if keys is None else keys, pa.binary()),
            pa.array(values, pa.binary()),
            pa.array([partition] * len(values), pa.int32()),
            pa.array(offsets, pa.int64()),
            pa.array([1_000 + offset for offset in offsets], pa.int64()),
        ],
        names=list(task.INPUT),
    )


def outbox(sizes: Sequence[int]) -> Answers:
    n = len(sizes)
    kinds = np.arange(n, dtype=np.uint8) % 2
    keys: list[bytes | None] = [None if i % 3 == 0 else b"k%d" % i for i in range(n)]
    return Answers(
        np.arange(n), kinds, np.zeros(n, np.uint64), keys, [bytes([i % 256]) * s for i, s in enumerate(sizes)]
    )


def test_every_batch_of_a_task_is_read_with_its_nulls() -> None:
    sliced = batch([b"x", b"", b"three"], [4, 5, 6]).slice(1)
    rows = task._collect(iter([batch([b"a", b"bc"], [1, 2]), batch([None, b"d"], [3, 4]), sliced, batch([], [])]))
    assert rows.values == [b"a", b"bc", None, b"d", b"", b"three"]
    assert rows.keys == rows.values
    assert rows.offsets.tolist() == [1, 2, 3, 4, 5, 6]
    assert rows.broker_times.tolist() == [1_001, 1_002, 1_003, 1_004, 1_005, 1_006]


@pytest.mark.parametrize("batches", [[], [batch([], [])]])
def test_a_task_without_rows_does_nothing(batches: list[pa.RecordBatch]) -> None:
    assert list(task.answer(CONFIG)(iter(batches))) == []


@pytest.mark.parametrize(
    "batches",
    [
        [batch([b"a"], [1], partition=0), batch([b"b"], [2], partition=1)],
        [batch([b"a"], [2]), batch([b"b"], [1])],
        [batch([b"a", b"b"], [1, 1])],
    ],
)
def test_a_slice_is_one_partition_in_offset_order(batches: list[pa.RecordBatch]) -> None:
    with pytest.raises(StateError, match="several partitions or out of order"):
        list(task.answer(CONFIG)(iter(batches)))


@pytest.mark.parametrize(
    ("sizes", "rows"),
    [
        ([], []),
        ([10], [1]),
        ([0, 0, 0], [3]),
        ([10] * (task.CHUNK_ROWS + 1), [task.CHUNK_ROWS, 1]),
        ([task.CHUNK_BYTES // 2, task.CHUNK_BYTES // 2, 1], [2, 1]),
        ([task.CHUNK_BYTES + 5, 1, task.CHUNK_BYTES + 5], [1, 1, 1]),
    ],
)
def test_answers_leave_in_order_in_batches_of_bounded_size(sizes: list[int], rows: list[int]) -> None:
    answers = outbox(sizes)
    chunks = list(task._chunks(answers, CONFIG))
    assert [len(chunk) for chunk in chunks] == rows
    assert [value for chunk in chunks for value in chunk.column(2).to_pylist()] == answers.values
    assert [key for chunk in chunks for key in chunk.column(1).to_pylist()] == answers.keys
    topics = [topic for chunk in chunks for topic in chunk.column(0).to_pylist()]
    assert topics == [("fraud_predictions", "transactions_dlq")[kind] for kind in answers.kinds]


def test_a_reused_worker_looks_for_killed_readers_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    opened = replace(open_memory(), check_readers=lambda: looks.append(1))
    monkeypatch.setattr(task, "open_store", lambda settings: opened)
    worker = task._Process()
    for _ in range(3):
        assert worker.store(CONFIG.settings) is opened
    assert looks == []  # opening looks by itself
    worker.checked -= task.READERS_SECONDS
    for _ in range(3):
        worker.store(CONFIG.settings)
    assert looks == [1]
