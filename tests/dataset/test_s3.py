"""Training sets on a real S3 server: two builds at once, S3 away in the middle, files cut short."""

import threading
from collections.abc import Iterator
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
from tests.dataset.lakes import FOLDER, NOW, WEEK, T, labels, streamed, transactions

pytestmark = pytest.mark.server

KNOWN = Manifest(
    as_of="2026-02-01T00:00:00.000Z",
    maturity_s=7 * 86_400,
    cut={"transactions": 0},
    feature_version=FEATURE_VERSION,
    created_at="2026-03-01T00:00:00.000Z",
    revision="r",
)


@pytest.fixture
def lake(s3: servers.Server, stack_settings: Settings) -> Iterator[Lake]:
    opened = open_lake(stack_settings)
    opened.wipe()
    yield opened
    opened.wipe()


def test_of_many_who_record_a_cut_at_once_one_decides_for_all(lake: Lake, stack_settings: Settings) -> None:
    all_together = threading.Barrier(8, timeout=30)

    def record(number: int) -> Manifest:
        mine = msgspec.structs.replace(KNOWN, cut={"transactions": number})
        all_together.wait()
        return create(stack_settings, open_lake(stack_settings), FOLDER, mine)

    with ThreadPoolExecutor(8) as pool:
        decided = list(pool.map(record, range(8)))
    assert decided == [read(lake, FOLDER)] * 8
    late = msgspec.structs.replace(KNOWN, cut={"transactions": 99})
    assert create(stack_settings, lake, FOLDER, late) == decided[0]


def test_two_builds_at_once_come_to_the_same(
    lake: Lake, stack_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A label comes in between their cuts: the slower one builds what the faster one has recorded."""
    append_past(lake, transactions(15), None, query="past")
    both, lock = threading.Barrier(2, timeout=30), threading.Lock()
    cut, labelled = Lake.cut, iter([False, True])

    def taken(self: Lake) -> dict[str, int]:
        with lock:
            if next(labelled):
                late = streamed(labels([(1, True, -3, False)]), 0, T)
                lake.append(LABELS, late.to_arrow(), query="q", batch=0)
            versions = cut(self)
        both.wait()
        return versions

    monkeypatch.setattr(Lake, "cut", taken)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: build(stack_settings, T, WEEK, now=NOW), range(2))
    assert one.manifest == other.manifest == load(stack_settings, one.uri).manifest
    assert to_rows(one).frauds.sum() == to_rows(other).frauds.sum() == one.manifest.frauds
    assert sorted(lake.place.sizes(FOLDER)) == ["manifest.json", *(part.name for part in one.manifest.parts)]


def test_s3_that_goes_away_in_the_middle_costs_a_second_run_and_nothing_else(
    lake: Lake, stack_settings: Settings, s3: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_past(lake, transactions(15), labels([(1, True, -3, False)]), query="past")
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
    servers.wait_for("S3 finds its volumes again after a kill", lambda: answers(lake), 30)
    assert len(written) == 1
    unfinished = read(lake, FOLDER)
    assert unfinished is not None
    with pytest.raises(DataError, match="a build hasn't finished"):
        load(stack_settings, f"{lake.place.uri}/{FOLDER}")
    late = streamed(labels([(2, True, -3, False)]), 0, T)
    lake.append(LABELS, late.to_arrow(), query="q", batch=0)
    done = build(stack_settings, T, WEEK, now=NOW)
    assert done.manifest.cut == unfinished.cut
    assert (done.manifest.rows, done.manifest.frauds) == (15, 1)
    assert done.manifest.parts[0] == written[0]
    assert check(done).rows == 15


def test_a_file_that_is_cut_short_is_named_and_built_again(lake: Lake, stack_settings: Settings) -> None:
    append_past(lake, transactions(15), labels([(1, True, -3, False)]), query="past")
    made = build(stack_settings, T, WEEK, now=NOW)
    part = made.manifest.parts[0]
    whole = lake.place.read(f"{FOLDER}/{part.name}")
    with lake.place.files.open_output_stream(f"{lake.place.root}/{FOLDER}/{part.name}") as file:
        file.write(whole[:100])
    with pytest.raises(DataError, match=rf"s3://lake/{FOLDER}: {part.name} has 100 bytes of {part.size}; `fraud-det"):
        to_rows(load(stack_settings, made.uri))
    assert build(stack_settings, T, WEEK, now=NOW).manifest == made.manifest
    assert lake.place.read(f"{FOLDER}/{part.name}") == whole


def answers(lake: Lake) -> bool:
    try:
        return read(lake, FOLDER) is not None
    except (ServiceError, DataError):
        return False
