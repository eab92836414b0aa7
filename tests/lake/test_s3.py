"""The lake on a real S3 server: writers at once, S3 away, files cut short."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fraud.errors import DataError, ServiceError
from fraud.lake import Lake, open_lake, reading
from fraud.lake.tables import LABELS, TRANSACTIONS
from fraud.settings import Settings
from tests import servers
from tests.lake.rows import offsets_of, records

pytestmark = pytest.mark.server


def test_writers_at_once_lose_nothing(s3_lake: Lake, stack_settings: Settings) -> None:
    """Two jobs that begin a table together, and upkeep that goes on beside them."""

    def write(query: str) -> None:
        own = open_lake(stack_settings)
        for batch in range(12):
            assert own.append(TRANSACTIONS, records(range(batch, batch + 1), topic_id=query), query=query, batch=batch)

    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(write, query) for query in "abc"]
        beside = pool.submit(lambda: [open_lake(stack_settings).compact(TRANSACTIONS) for _ in range(6)])
        for one in writing:
            one.result(60)
        beside.result(60)
    rows = s3_lake.scan(TRANSACTIONS).select("topic_id", "offset").collect().rows()
    assert sorted(rows) == [(query, offset) for query in "abc" for offset in range(12)]
    assert [s3_lake.written(TRANSACTIONS, query) for query in "abc"] == [11, 11, 11]


def test_the_same_batch_from_two_writers_at_once_is_there_once(s3_lake: Lake, stack_settings: Settings) -> None:
    """An orphan of the archive job and its successor: each asks before it writes, and the commit asks again."""
    s3_lake.append(LABELS, records(range(1), LABELS), query="q", batch=0)

    def write(_: int) -> bool | None:
        try:
            return open_lake(stack_settings).append(LABELS, records(range(1, 3), LABELS), query="q", batch=1)
        except ServiceError as exc:
            assert "other writers were faster" in str(exc)
            return None

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(write, range(4)))
    assert said.count(True) == 1
    assert offsets_of(s3_lake.scan(LABELS)) == [0, 1, 2]


def test_a_file_that_is_cut_short_is_named(s3_lake: Lake) -> None:
    s3_lake.append(TRANSACTIONS, records(range(300)), query="q", batch=0)
    (path,) = (path for path in s3_lake.place.sizes("transactions") if path.endswith(".parquet"))
    whole = s3_lake.place.read(f"transactions/{path}")
    with s3_lake.place.files.open_output_stream(f"{s3_lake.place.root}/transactions/{path}") as file:
        file.write(whole[:100])
    with pytest.raises(DataError, match=rf"s3://lake/transactions/{path} has 100 bytes of {len(whole)}: it was cut"):
        s3_lake.scan(TRANSACTIONS)


def test_s3_that_goes_away_is_named_and_what_was_written_stays(
    s3_lake: Lake, s3: servers.Server, stack_settings: Settings, tmp_path: Path
) -> None:
    s3_lake.append(TRANSACTIONS, records(range(5)), query="q", batch=0)
    rows = s3_lake.scan(TRANSACTIONS)
    s3.kill()
    try:
        assert not s3_lake.place.is_reached()
        for ask in (
            lambda: s3_lake.append(TRANSACTIONS, records(range(5, 9)), query="q", batch=1),
            s3_lake.cut,
            lambda: s3_lake.scan(TRANSACTIONS),
            s3_lake.wipe,
        ):
            with pytest.raises(ServiceError, match=r"can't be reached: is S3 up\?"):
                ask()
        with pytest.raises(ServiceError, match="the lake's rows can't be reached"), reading("the lake's rows"):
            rows.collect()
        done = run(stack_settings, "maintain", "--lake-only", "--json")
        assert (done.returncode, done.stdout) == (1, "")
        assert "is S3 up?" in done.stderr
    finally:
        s3.start()
    servers.wait_for("S3 finds its volumes again after a kill", lambda: answers(s3_lake), 30)
    assert s3_lake.written(TRANSACTIONS, "q") == 0
    assert s3_lake.append(TRANSACTIONS, records(range(5, 9)), query="q", batch=1)
    assert offsets_of(s3_lake.scan(TRANSACTIONS)) == list(range(9))


def test_the_command_keeps_the_lake_small(s3_lake: Lake, stack_settings: Settings) -> None:
    for batch in range(5):
        s3_lake.append(TRANSACTIONS, records(range(batch, batch + 1)), query="q", batch=batch)
    done = run(stack_settings, "maintain", "--lake-only", "--json")
    assert done.returncode == 0, done.stderr
    assert "transactions: 5 files compacted" in done.stderr
    (line,) = done.stdout.splitlines()
    said: dict[str, Any] = json.loads(line)
    assert said["lake"]["transactions"]["compacted"] == 5
    assert offsets_of(s3_lake.scan(TRANSACTIONS)) == list(range(5))


def answers(lake: Lake) -> bool:
    try:
        return lake.version(TRANSACTIONS) is not None
    except ServiceError:
        return False


def run(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "fraud-detect"), *arguments],
        env=servers.environment(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
