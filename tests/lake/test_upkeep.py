"""Upkeep changes files, never rows: what a cut in use names stays readable, byte for byte the same."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fraud.errors import DataError
from fraud.lake import Lake
from fraud.lake.tables import LABELS, TRANSACTIONS, Table
from tests.lake.rows import lake_in, offsets_of, records

NOW = datetime(2026, 6, 1, tzinfo=UTC)
AT_ONCE = timedelta(0)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return lake_in(tmp_path)


def fill(lake: Lake, batches: range, table: Table = TRANSACTIONS) -> None:
    for batch in batches:
        lake.append(table, records(range(3 * batch, 3 * batch + 3), table), query="q", batch=batch)


def keep_cut(lake: Lake, name: str, cut: dict[str, int], created_at: str = "2026-05-20T03:00:00.000Z") -> Path:
    folder = Path(lake.place.uri) / "datasets" / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"cut": cut, "created_at": created_at}))
    return folder


def digest(lake: Lake, cut: dict[str, int], table: Table = TRANSACTIONS) -> str:
    rows = lake.at(table, cut).sort("topic_id", "partition", "offset").collect()
    return hashlib.sha256(rows.write_csv().encode()).hexdigest()


def test_a_cut_reads_the_same_after_appends_compactions_and_vacuums(lake: Lake) -> None:
    fill(lake, range(6))
    fill(lake, range(4), LABELS)
    cut = lake.cut()
    keep_cut(lake, "2026-05-20", cut)
    before = {table.name: digest(lake, cut, table) for table in (TRANSACTIONS, LABELS)}
    whole = 3 * 6
    for turn in range(3):
        fill(lake, range(6 + 30 * turn, 36 + 30 * turn))
        fill(lake, range(4 + turn, 5 + turn), LABELS)
        lake.maintain(now=NOW, cut_days=90, grace=AT_ONCE)
        whole += 90
        assert {table.name: digest(lake, cut, table) for table in (TRANSACTIONS, LABELS)} == before
        assert offsets_of(lake.scan(TRANSACTIONS)) == list(range(whole))
        assert lake.written(TRANSACTIONS, "q") == 35 + 30 * turn


def test_what_nothing_refers_to_goes(lake: Lake) -> None:
    fill(lake, range(6))
    middle = lake.cut()
    keep_cut(lake, "old", middle, created_at="2026-01-01T03:00:00.000Z")
    fill(lake, range(6, 12))
    folder = Path(lake.place.uri) / "transactions"
    stray = folder / "date=2026-03-01" / "part-killed.parquet"
    stray.write_bytes(b"half")
    done = lake.maintain(now=NOW, cut_days=90, grace=AT_ONCE)["transactions"]
    assert (done.compacted, done.kept_versions) == (12, 0)
    assert done.removed >= 12
    assert len(list(folder.glob("date=*/*.parquet"))) == 1
    assert not stray.exists()
    assert offsets_of(lake.scan(TRANSACTIONS)) == list(range(36))
    with pytest.raises(DataError, match="is missing"):
        lake.at(TRANSACTIONS, middle)


def test_what_was_replaced_lately_stays_for_its_readers(lake: Lake) -> None:
    fill(lake, range(6))
    cut = lake.cut()  # of a training set that is being built: it has no manifest yet
    before = digest(lake, cut)
    fill(lake, range(6, 9))
    done = lake.maintain(now=NOW, cut_days=90)["transactions"]
    assert (done.compacted, done.removed) == (9, 0)
    assert digest(lake, cut) == before


def test_a_second_upkeep_finds_nothing_to_do(lake: Lake) -> None:
    fill(lake, range(6))
    lake.maintain(now=NOW, cut_days=90, grace=AT_ONCE)
    done = lake.maintain(now=NOW, cut_days=90, grace=AT_ONCE)["transactions"]
    assert (done.compacted, done.removed) == (0, 0)


def test_nothing_goes_where_a_manifest_cannot_be_read(lake: Lake) -> None:
    fill(lake, range(6))
    folder = keep_cut(lake, "broken", lake.cut())
    (folder / "manifest.json").write_text("{")
    fill(lake, range(6, 9))
    files = sorted((Path(lake.place.uri) / "transactions").glob("date=*/*.parquet"))
    with pytest.raises(DataError, match=r"broken/manifest.json is no manifest"):
        lake.maintain(now=NOW, cut_days=90, grace=AT_ONCE)
    assert sorted((Path(lake.place.uri) / "transactions").glob("date=*/*.parquet")) == files


def test_an_empty_lake_needs_no_upkeep(lake: Lake) -> None:
    assert lake.maintain(now=NOW, cut_days=90) == {}
