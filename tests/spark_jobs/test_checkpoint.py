"""The mark is never above the point from which a restart of Spark resumes."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.errors import StateError
from spark_jobs import checkpoint


def write(log: Path, batch: int, offsets: dict[str, int] | None = None) -> None:
    """Write one entry of the offset or the commit log as Spark 4.2 does, its checksum beside it."""
    log.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"nextBatchWatermarkMs": 0}) if offsets is None else json.dumps({"transactions": offsets})
    (log / str(batch)).write_text(f'v1\n{{"batchWatermarkMs":0}}\n{line}' if offsets is not None else f"v1\n{line}")
    (log / f".{batch}.crc").write_bytes(b"crc")


def test_a_folder_that_no_query_wrote_is_unused(tmp_path: Path) -> None:
    assert not checkpoint.is_used(tmp_path)
    (tmp_path / "offsets").mkdir()
    (tmp_path / "metadata").write_text('{"id":"…"}')
    assert not checkpoint.is_used(tmp_path)
    assert checkpoint.published(tmp_path, "transactions") == {}


def test_recorded_first_offsets_are_a_start(tmp_path: Path) -> None:
    (tmp_path / "sources" / "0").mkdir(parents=True)
    (tmp_path / "sources" / "0" / "0").write_text("v1")
    assert checkpoint.is_used(tmp_path)
    assert checkpoint.published(tmp_path, "transactions") == {}


def test_the_newest_entry_of_both_logs_counts(tmp_path: Path) -> None:
    for batch in (0, 9, 10, 11):
        write(tmp_path / "offsets", batch, {"0": 10 * batch, "1": batch})
    for batch in (0, 9, 10):
        write(tmp_path / "commits", batch)
    (tmp_path / "offsets" / ".12.tmp").write_text("half an entry")
    assert checkpoint.is_used(tmp_path)
    assert checkpoint.published(tmp_path, "transactions") == {0: 100, 1: 10}


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.integers(0, 2))
def test_the_mark_is_never_above_the_restart(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], open_: int
) -> None:
    """Entries with any distance between them, the last `open_` of them without a commit (a kill -9)."""
    where = tmp_path_factory.mktemp("checkpoint")
    batches = [sum(steps[: n + 1]) for n in range(len(steps))]
    for batch in batches:
        write(where / "offsets", batch, {"0": 100 * batch})
    for batch in batches[: max(len(batches) - open_, 0)]:
        write(where / "commits", batch)
    mark = checkpoint.published(where, "transactions").get(0, 0)
    # MicroBatchExecution.populateStartOffsets: the newest entry if it is committed, else the one before it.
    restart = 100 * batches[-1] if open_ == 0 else 100 * (batches[-2] if len(batches) > 1 else 0)
    assert mark <= restart


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('v2\n{}\n{"transactions":{"0":1}}', "isn't an offset log of version 1"),
        ("v1\n{}", "isn't an offset log of version 1"),
        ('v1\n{}\n{"transactions":{"0":1}}\n{"other":{"0":1}}', "with one source"),
        ('v1\n{}\n{"other":{"0":1}}', "no offsets of the topic 'transactions'"),
        ("v1\n{}\n-", "no offsets of the topic 'transactions'"),
        ('v1\n{}\n{"transactions":[1]}', "no offsets of the topic 'transactions'"),
    ],
)
def test_another_log_is_refused(text: str, says: str) -> None:
    with pytest.raises(StateError, match=says):
        checkpoint.parse_offsets(text, "transactions")
