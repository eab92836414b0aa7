"""The lake on a real S3 server: writers at once, S3 away, files cut short."""

import json
import subprocess
import sys
from collections.abc import Iterator
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


@pytest.fixture
def lake(s3: servers.Server, stack_settings: Settings) -> Iterator[Lake]:
    opened = open_lake(stack_settings)
    opened.wipe()
    yield opened
    opened.wipe()


def test_writers_at_once_lose_nothing(lake: Lake, stack_settings: Settings) -> None:
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
    rows = lake.scan(TRANSACTIONS).select("topic_id", "offset").collect().rows()
    assert sorted(rows) == [(query, offset) for query in "abc" for offset in range(12)]
    assert [lake.written(TRANSACTIONS, query) for query in "abc"] == [11, 11, 11]


def test_the_same_batch_from_two_writers_at_once_is_there_once(lake: Lake, stack_settings: Settings) -> None:
    """An orphan of the archive job and its successor: each asks before it writes, and the commit asks again."""
    lake.append(LABELS, records(range(1), LABELS), query="q", batch=0)

    def write(_: int) -> bool | None:
        try:
            return open_lake(stack_settings).append(LABELS, records(range(1, 3), LABELS), query="q", batch=1)
        except ServiceError as exc:
            assert "other writers were faster" in str(exc)
            return None

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(write, range(4)))
    assert said.count(True) == 1
    assert offsets_of(lake.scan(LABELS)) == [0, 1, 2]


def test_a_file_that_is_cut_short_is_named(lake: Lake) -> None:
    lake.append(TRANSACTIONS, records(range(300)), query="q", batch=0)
    (path,) = (path for path in lake.place.sizes("transactions") if path.endswith(".parquet"))
    whole = lake.place.read(f"transactions/{path}")
    with lake.place.files.open_output_stream(f"{lake.place.root}/transactions/{path}") as file:
        file.write(whole[:100])
    with pytest.raises(DataError, match=rf"s3://lake/transactions/{path} has 100 bytes of {len(whole)}: it was cut"):
        lake.scan(TRANSACTIONS)


def test_s3_that_goes_away_is_named_and_what_was_written_stays(
    lake: Lake, s3: servers.Server, stack_settings: Settings, tmp_path: Path
) -> None:
    lake.append(TRANSACTIONS, records(range(5)), query="q", batch=0)
    rows = lake.scan(TRANSACTIONS)
    s3.kill()
    try:
        assert not lake.place.is_reached()
        for ask in (
            lambda: lake.append(TRANSACTIONS, records(range(5, 9)), query="q", batch=1),
            lake.cut,
            lambda: lake.scan(TRANSACTIONS),
            lake.wipe,
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
    servers.wait_for("S3 finds its volumes again after a kill", lambda: answers(lake), 30)
    assert lake.written(TRANSACTIONS, "q") == 0
    assert lake.append(TRANSACTIONS, records(range(5, 9)), query="q", batch=1)
    assert offsets_of(lake.scan(TRANSACTIONS)) == list(range(9))


def test_the_command_keeps_the_lake_small(lake: Lake, stack_settings: Settings) -> None:
    for batch in range(5):
        lake.append(TRANSACTIONS, records(range(batch, batch + 1)), query="q", batch=batch)
    done = run(stack_settings, "maintain", "--lake-only", "--json")
    assert done.returncode == 0, done.stderr
    assert "transactions: 5 files compacted" in done.stderr
    (line,) = done.stdout.splitlines()
    said: dict[str, Any] = json.loads(line)
    assert said["lake"]["transactions"]["compacted"] == 5
    assert offsets_of(lake.scan(TRANSACTIONS)) == list(range(5))


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
