"""Training sets on a real S3 server: two builds at once, S3 away in the middle, files cut short."""

import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import polars as pl
import pytest

from fraud.backfill.archived import append_past
from fraud.dataset import build, load, parts, to_rows
from fraud.dataset.check import check
from fraud.dataset.manifest import Manifest, Part, create, read
from fraud.errors import DataError, ServiceError
from fraud.features import FEATURE_VERSION
from fraud.lake import Lake, open_lake
from fraud.lake.tables import LABELS
from fraud.settings import Settings
from tests import servers
from tests.dataset.lakes import FOLDER, NOW, WEEK, T, labels, streamed, transactions, two_builds_at_once

pytestmark = pytest.mark.server

KNOWN = Manifest(
    as_of="2026-02-01T00:00:00.000Z",
    maturity_s=7 * 86_400,
    cut={"transactions": 0},
    feature_version=FEATURE_VERSION,
    created_at="2026-03-01T00:00:00.000Z",
    revision="r",
)


def test_of_many_who_record_a_cut_at_once_one_decides_for_all(s3_lake: Lake, stack_settings: Settings) -> None:
    all_together = threading.Barrier(8, timeout=30)

    def record(number: int) -> Manifest:
        mine = msgspec.structs.replace(KNOWN, cut={"transactions": number})
        all_together.wait()
        return create(stack_settings, open_lake(stack_settings), FOLDER, mine)

    with ThreadPoolExecutor(8) as pool:
        decided = list(pool.map(record, range(8)))
    assert decided == [read(s3_lake, FOLDER)] * 8
    late = msgspec.structs.replace(KNOWN, cut={"transactions": 99})
    assert create(stack_settings, s3_lake, FOLDER, late) == decided[0]


def test_two_builds_at_once_come_to_the_same(
    s3_lake: Lake, stack_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_builds_at_once(stack_settings, s3_lake, monkeypatch)


def test_s3_that_goes_away_in_the_middle_costs_a_second_run_and_nothing_else(
    s3_lake: Lake, stack_settings: Settings, s3: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_past(s3_lake, transactions(15), labels([(1, True, -3, False)]), query="past")
    monkeypatch.setattr("fraud.dataset.ROWS_AT_ONCE", 1)  # three files
    write = parts.write
    written: list[Part] = []

    def dying(lake: Lake, folder: str, rows: pl.DataFrame) -> Part:
        if len(written) == 1 and s3.process is not None:
            s3.kill()
        written.append(write(lake, folder, rows))
        return written[-1]

    try:
        with monkeypatch.context() as middle:
            middle.setattr(parts, "write", dying)
            with pytest.raises(ServiceError, match=r"can't be reached: is S3 up\?"):
                build(stack_settings, T, WEEK, now=NOW)
    finally:
        s3.start()
    servers.wait_for("S3 finds its volumes again after a kill", lambda: answers(s3_lake), 30)
    assert len(written) == 1
    unfinished = read(s3_lake, FOLDER)
    assert unfinished is not None
    with pytest.raises(DataError, match="a build hasn't finished"):
        load(stack_settings, f"{s3_lake.place.uri}/{FOLDER}")
    late = streamed(labels([(2, True, -3, False)]), 0, T)
    s3_lake.append(LABELS, late.to_arrow(), query="q", batch=0)
    done = build(stack_settings, T, WEEK, now=NOW)
    assert done.manifest.cut == unfinished.cut
    assert (done.manifest.rows, done.manifest.frauds) == (15, 1)
    assert done.manifest.parts[0] == written[0]
    assert check(done).rows == 15


def test_a_file_that_is_cut_short_is_named_and_built_again(s3_lake: Lake, stack_settings: Settings) -> None:
    append_past(s3_lake, transactions(15), labels([(1, True, -3, False)]), query="past")
    made = build(stack_settings, T, WEEK, now=NOW)
    part = made.manifest.parts[0]
    whole = s3_lake.place.read(f"{FOLDER}/{part.name}")
    with s3_lake.place.files.open_output_stream(f"{s3_lake.place.root}/{FOLDER}/{part.name}") as file:
        file.write(whole[:100])
    with pytest.raises(DataError, match=rf"s3://lake/{FOLDER}: {part.name} has 100 bytes of {part.size}; `fraud-det"):
        to_rows(load(stack_settings, made.uri))
    assert build(stack_settings, T, WEEK, now=NOW).manifest == made.manifest
    assert s3_lake.place.read(f"{FOLDER}/{part.name}") == whole


def answers(lake: Lake) -> bool:
    try:
        return read(lake, FOLDER) is not None
    except (ServiceError, DataError):
        return False
