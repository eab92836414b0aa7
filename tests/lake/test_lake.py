"""A batch is in the lake once, a version's rows stay what they were, and damage is named."""

from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.errors import ConfigError, DataError
from fraud.lake import Lake, open_lake, reading
from fraud.lake.tables import BACKFILL, LABELS, NO_BATCH, TABLES, TRANSACTIONS
from fraud.settings import Settings
from tests.lake.rows import lake_in, offsets_of, records


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return lake_in(tmp_path)


def test_an_empty_lake_has_no_rows_and_no_versions(lake: Lake) -> None:
    assert lake.cut() == {}
    assert lake.version(TRANSACTIONS) is None
    assert lake.written(TRANSACTIONS, "query") is None
    assert lake.ends(TRANSACTIONS) == {}
    for table in TABLES:
        rows = lake.scan(table).collect()
        assert rows.is_empty()
        assert rows.columns == table.schema.names
    assert not Path(lake.place.uri).exists()


def test_a_batch_that_is_written_again_is_recognised(lake: Lake) -> None:
    assert lake.append(TRANSACTIONS, records(range(5)), query="q", batch=0)
    assert lake.append(TRANSACTIONS, records(range(5, 9)), query="q", batch=1)
    assert not lake.append(TRANSACTIONS, records(range(5, 9)), query="q", batch=1)
    assert not lake.append(TRANSACTIONS, records(range(5)), query="q", batch=0)
    assert offsets_of(lake.scan(TRANSACTIONS)) == list(range(9))
    assert lake.written(TRANSACTIONS, "q") == 1
    assert lake.append(TRANSACTIONS, records(range(9, 10)), query="another", batch=0)
    assert lake.append(LABELS, records(range(3), LABELS), query="q", batch=1)
    assert (lake.written(TRANSACTIONS, "q"), lake.written(TRANSACTIONS, "another")) == (1, 0)


def test_a_batch_is_recognised_behind_checkpoints_of_the_log(lake: Lake) -> None:
    for batch in range(45):
        assert lake.append(LABELS, records(range(batch, batch + 1), LABELS), query="q", batch=batch)
    log = [path.name for path in (Path(lake.place.uri) / "labels" / "_delta_log").glob("*.checkpoint.parquet")]
    assert len(log) >= 2
    assert not lake_in(Path(lake.place.uri).parent).append(LABELS, records(range(1), LABELS), query="q", batch=44)


def test_nothing_is_written_of_nothing(lake: Lake) -> None:
    assert not lake.append(TRANSACTIONS, records(range(0)), query="q", batch=0)
    assert lake.version(TRANSACTIONS) is None


def test_columns_are_filled_in_where_absent(lake: Lake) -> None:
    lake.append(TRANSACTIONS, records(range(2), day=1), query="q", batch=7)
    loaded = records(range(1), topic_id=BACKFILL).append_column("batch", pa.array([NO_BATCH]))
    lake.append(TRANSACTIONS, loaded, query="backfill/x", batch=0)
    rows = lake.scan(TRANSACTIONS).sort("batch").select("topic_id", "date", "query", "batch").collect().rows()
    streamed = ("topic", date(2026, 3, 2), "q", 7)
    assert rows == [(BACKFILL, date(2026, 3, 1), "backfill/x", -1), streamed, streamed]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (records(range(2)).drop_columns(["digest"]), "lack digest"),
        (records(range(2)).append_column("surprise", pa.array([1, 2])), "no column surprise"),
        (records(range(2)).set_column(0, "topic_id", pa.array(["a", None])), "topic_id holds 1 nulls"),
        (records(range(2)).set_column(2, "offset", pa.array(["a", "b"])), "offset must be int64"),
    ],
)
def test_rows_that_are_not_the_tables_are_refused(lake: Lake, rows: pa.Table, says: str) -> None:
    with pytest.raises(DataError, match=says):
        lake.append(TRANSACTIONS, rows, query="q", batch=0)
    assert lake.version(TRANSACTIONS) is None


def test_a_version_keeps_its_rows(lake: Lake) -> None:
    lake.append(TRANSACTIONS, records(range(5)), query="q", batch=0)
    cut = lake.cut()
    lake.append(TRANSACTIONS, records(range(5, 9)), query="q", batch=1)
    lake.append(LABELS, records(range(3), LABELS), query="q", batch=1)
    assert offsets_of(lake.at(TRANSACTIONS, cut)) == list(range(5))
    assert lake.at(LABELS, cut).collect().is_empty()
    assert lake.cut().keys() == {"transactions", "labels"}
    with pytest.raises(DataError, match="no version 99"):
        lake.scan(TRANSACTIONS, version=99)


def test_ends_are_after_the_newest_record_of_each_partition(lake: Lake) -> None:
    lake.append(TRANSACTIONS, records(range(5)), query="q", batch=0)
    lake.append(TRANSACTIONS, records(range(3, 5), partition=1, day=1), query="q", batch=1)
    lake.append(TRANSACTIONS, records(range(2), topic_id="newer"), query="q", batch=2)
    lake.append(TRANSACTIONS, records(range(50), topic_id=BACKFILL), query="backfill/x", batch=0)
    assert lake.ends(TRANSACTIONS) == {("topic", 0): 5, ("topic", 1): 5, ("newer", 0): 2}


def test_a_file_that_is_cut_short_or_gone_is_named(lake: Lake) -> None:
    lake.append(TRANSACTIONS, records(range(500)), query="q", batch=0)
    (file,) = (Path(lake.place.uri) / "transactions").glob("date=*/*.parquet")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"{file.name} has \d+ bytes of {len(whole)}: it was cut short.*backfill"):
        lake.scan(TRANSACTIONS)
    with pytest.raises(DataError, match=file.name):
        lake.ends(TRANSACTIONS)
    file.write_bytes(b"\0" * len(whole))
    with pytest.raises(DataError, match="the lake's rows is damaged"), reading("the lake's rows"):
        lake.scan(TRANSACTIONS).collect()
    file.unlink()
    with pytest.raises(DataError, match=rf"{file.name} is missing"):
        lake.scan(TRANSACTIONS)
    file.write_bytes(whole)
    assert offsets_of(lake.scan(TRANSACTIONS)) == list(range(500))


def test_a_damaged_log_is_named(lake: Lake) -> None:
    for batch in range(3):
        lake.append(TRANSACTIONS, records(range(batch, batch + 1)), query="q", batch=batch)
    log = Path(lake.place.uri) / "transactions" / "_delta_log" / f"{1:020}.json"
    whole = log.read_bytes()
    log.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"transactions is damaged"):
        lake.scan(TRANSACTIONS)
    log.write_bytes(whole)
    assert lake.scan(TRANSACTIONS).collect().height == 3


def test_a_wipe_leaves_an_empty_lake(lake: Lake) -> None:
    lake.append(TRANSACTIONS, records(range(5)), query="q", batch=0)
    lake.wipe()
    lake.wipe()
    assert lake.cut() == {}
    assert lake.append(TRANSACTIONS, records(range(1)), query="q", batch=0)
    assert offsets_of(lake.scan(TRANSACTIONS)) == [0]


@pytest.mark.parametrize("uri", ["s3://", "", "http://elsewhere/lake"])
def test_an_address_that_is_none_is_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="FRAUD_LAKE_URI"):
        open_lake(Settings.load({}, home=tmp_path, lake_uri=uri))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.booleans()), max_size=12))
def test_however_batches_are_replayed_each_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, bool]]
) -> None:
    """Queries write their batches in order and go back to any of them, as after a crash, at any time."""
    lake = lake_in(tmp_path_factory.mktemp("replays"))
    reached = {"a": 0, "b": 0}
    for query, back, compact in steps:
        for batch in range(max(0, reached[query] - back), reached[query] + 1):
            fresh = lake.append(
                TRANSACTIONS, records(range(batch, batch + 1), topic_id=query), query=query, batch=batch
            )
            assert fresh == (batch == reached[query])
        reached[query] += 1
        if compact:
            lake.compact(TRANSACTIONS)
    rows = lake.scan(TRANSACTIONS).select("topic_id", "offset").collect()
    assert sorted(rows.rows()) == sorted((query, offset) for query, end in reached.items() for offset in range(end))
    assert isinstance(rows, pl.DataFrame)
