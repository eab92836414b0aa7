"""The label clock's law: a training set of (T, cut) is the same whenever it is built, and knows T's labels alone."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fraud.backfill.archived import append_past
from fraud.cli.main import app
from fraud.dataset import Dataset, build, load, to_rows
from fraud.dataset.check import check
from fraud.dataset.manifest import replace
from fraud.errors import ConfigError, DataError
from fraud.features import FEATURE_NAMES, FEATURE_VERSION
from fraud.lake import Lake, open_lake
from fraud.lake.tables import LABELS, PREDICTIONS
from fraud.settings import Settings
from fraud.training import labelled_rows
from producer.simulate import Config, generate

T = datetime(2026, 2, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
SIMPLE = hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def lake_at(folder: Path) -> tuple[Settings, Lake]:
    read = Settings.load({}, home=folder / "home", lake_uri=str(folder / "lake"))
    return read, open_lake(read)


def test_a_loaded_past_gives_what_training_from_its_tables_gives(tmp_path: Path) -> None:
    read, lake = lake_at(tmp_path)
    past = generate(Config(start=datetime(2026, 1, 1, tzinfo=UTC), days=31, users=200, merchants=60))
    append_past(lake, past.transactions, past.labels, query="past")
    dataset = build(read, T, WEEK, now=NOW)
    rows, expected = to_rows(dataset), labelled_rows(past.transactions, past.labels, T, WEEK)
    order = np.lexsort((expected.cards, expected.times))
    assert dataset.manifest.rebuilt_rows == dataset.manifest.rows == len(expected.times)
    mine = np.lexsort((rows.cards, rows.times))
    assert np.array_equal(rows.times[mine], expected.times[order])
    assert np.array_equal(rows.frauds[mine], expected.frauds[order])
    assert np.array_equal(rows.matrix[mine], expected.matrix[order], equal_nan=True)
    assert (rows.as_of, rows.maturity) == (expected.as_of, expected.maturity)
    assert check(dataset).frauds == int(expected.frauds.sum()) > 0


def transactions(count: int) -> pl.DataFrame:
    at = [T - timedelta(days=20) + timedelta(hours=7 * i) for i in range(count)]
    return pl.DataFrame(
        {
            "transaction_id": [f"t{i}" for i in range(count)],
            "user_id": [f"c{i % 3}" for i in range(count)],
            "merchant_id": [f"m{i % 2}" for i in range(count)],
            "timestamp": at,
            "amount": [10.0 + i for i in range(count)],
            "currency": ["EUR"] * count,
            **{name: [None] * count for name in ("merchant_category", "channel", "country", "device_id")},
            **{name: [None] * count for name in ("latitude", "longitude")},
        },
        schema_overrides={
            "timestamp": pl.Datetime("ms", "UTC"),
            **dict.fromkeys(("merchant_category", "channel", "country", "device_id"), pl.String),
            **dict.fromkeys(("latitude", "longitude"), pl.Float64),
        },
    )


# Of a label: its transaction (15 and 16 are nobody's), the verdict, when it was given (days from T), a wrong merchant.
LABEL = st.tuples(st.integers(0, 16), st.booleans(), st.sampled_from([-25, -8, -1, 0, 1, 365]), st.booleans())


def labels(said: list[tuple[int, bool, int, bool]]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            (f"t{number}", f"c{number % 3}", "m9" if wrong else f"m{number % 2}", T, verdict, T + timedelta(days=day))
            for number, verdict, day, wrong in said
        ],
        schema={
            "transaction_id": pl.String,
            "user_id": pl.String,
            "merchant_id": pl.String,
            "timestamp": pl.Datetime("ms", "UTC"),
            "is_fraud": pl.Boolean,
            "labelled_at": pl.Datetime("ms", "UTC"),
        },
        orient="row",
    ).with_columns(pl.lit("analyst").alias("source"))


def streamed(rows: pl.DataFrame, first: int, broker: datetime) -> pl.DataFrame:
    """Give rows the positions of records of a topic."""
    return rows.with_columns(
        pl.lit("topic").alias("topic_id"),
        pl.lit(0, pl.Int32).alias("partition"),
        (pl.int_range(pl.len()) + first).alias("offset"),
        pl.lit(broker).cast(pl.Datetime("us", "UTC")).alias("broker_time"),
    )


def known_at_t(said: list[tuple[int, bool, int, bool]]) -> dict[str, bool]:
    """The rule, written down a second time: the last of the greatest labelled_at that isn't after T."""
    known: dict[str, tuple[int, bool]] = {}
    for number, verdict, day, _ in said:
        if day <= 0 and (f"t{number}" not in known or known[f"t{number}"][0] <= day):
            known[f"t{number}"] = day, verdict
    return {name: verdict for name, (_, verdict) in known.items()}


@SIMPLE
@given(before=st.lists(LABEL, max_size=12), after=st.lists(LABEL, min_size=1, max_size=6))
def test_what_comes_later_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[tuple[int, bool, int, bool]],
    after: list[tuple[int, bool, int, bool]],
) -> None:
    read, lake = lake_at(tmp_path_factory.mktemp("law"))
    append_past(lake, transactions(15), None, query="past")
    lake.append(LABELS, streamed(labels(before), 0, T).to_arrow(), query="q", batch=0)
    dataset = build(read, T, timedelta(days=16), now=NOW)
    named = pl.concat([dataset.part(part) for part in dataset.manifest.parts])
    found = dict(named.select("transaction_id", "is_fraud").iter_rows())
    expected = known_at_t(before)
    assert found == {name: expected.get(name, False) for name in (f"t{i}" for i in range(14))}
    late = streamed(labels(after), len(before), T + timedelta(days=400))
    lake.append(LABELS, late.to_arrow(), query="q", batch=1)
    lake.append(PREDICTIONS, streamed(prediction(named), 0, T).to_arrow(), query="q", batch=1)
    for table in (LABELS, PREDICTIONS):
        lake.compact(table)
    again = build(read, T, timedelta(days=16), again=True, now=NOW)
    assert again.manifest == dataset.manifest


def prediction(rows: pl.DataFrame, version: str = FEATURE_VERSION, amount: float = 77.0) -> pl.DataFrame:
    """A prediction of each row, whose features say that the model saw `amount`."""
    seen = [pl.lit(amount).alias(name) for name in FEATURE_NAMES]
    return rows.select(
        pl.lit(0, pl.Int32).alias("source_partition"),
        pl.int_range(pl.len()).alias("source_offset"),
        "transaction_id",
        "user_id",
        "merchant_id",
        "timestamp",
        "amount",
        *(pl.lit(0.5).alias(name) for name in ("fraud_probability", "threshold")),
        pl.lit(1).alias("prediction"),
        *(pl.lit(name).alias(name) for name in ("decision", "model_name", "model_version")),
        pl.lit(version).alias("feature_version"),
        *(pl.lit(T).alias(name) for name in ("profile_through", "scored_at")),
        pl.struct(seen).alias("features"),
    )


def test_features_are_those_that_the_model_saw_once_however_often_it_was_published(tmp_path: Path) -> None:
    read, lake = lake_at(tmp_path)
    append_past(lake, transactions(15), None, query="past")
    rows = transactions(15)
    lake.append(PREDICTIONS, streamed(prediction(rows.head(5)), 0, T).to_arrow(), query="q", batch=0)
    lake.append(PREDICTIONS, streamed(prediction(rows.head(5)), 5, T).to_arrow(), query="q", batch=1)
    other = prediction(rows, version="0-old", amount=88.0)
    lake.append(PREDICTIONS, streamed(other, 10, T).to_arrow(), query="q", batch=2)
    dataset = build(read, T, WEEK, now=NOW)
    found = to_rows(dataset)
    assert len(found.times) == 15
    assert dataset.manifest.rebuilt_rows == 10
    assert (found.matrix[:5] == 77.0).all()
    assert found.matrix[5:, 0].tolist() == [15.0 + i for i in range(10)]


def test_the_hash_does_not_depend_on_how_many_users_are_built_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, lake = lake_at(tmp_path)
    append_past(lake, transactions(15), labels([(1, True, -3, False)]), query="past")
    one = build(read, T, WEEK, now=NOW)
    monkeypatch.setattr("fraud.dataset.ROWS_AT_ONCE", 1)
    many = build(read, T, WEEK, again=True, now=NOW)
    assert (len(one.manifest.parts), len(many.manifest.parts)) == (1, 3)
    assert one.manifest.sha256 == many.manifest.sha256
    assert np.array_equal(
        to_rows(one.__class__(many.uri, many.manifest, lake)).matrix, to_rows(many).matrix, equal_nan=True
    )


def test_a_build_that_was_cut_short_goes_on_with_its_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, lake = lake_at(tmp_path)
    append_past(lake, transactions(15), None, query="past")
    with monkeypatch.context() as broken:
        broken.setattr("fraud.dataset._write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build(read, T, WEEK, now=NOW)
    uri = f"{lake.place.uri}/datasets/2026-02-01T000000.000Z"
    with pytest.raises(DataError, match="hasn't finished"):
        load(read, uri)
    lake.append(LABELS, streamed(labels([(1, True, -3, False)]), 0, T).to_arrow(), query="q", batch=0)
    assert build(read, T, WEEK, now=NOW).manifest.frauds == 0
    assert load(read, uri).manifest.frauds == 0


def test_what_cannot_be_built_is_said(tmp_path: Path) -> None:
    read, lake = lake_at(tmp_path)
    with pytest.raises(DataError, match="is empty: nothing was archived yet"):
        build(read, T, WEEK, now=NOW)
    append_past(lake, transactions(15), None, query="past")
    with pytest.raises(DataError, match="no transaction in the lake was 30 days old"):
        build(read, T, timedelta(days=30), now=NOW)
    build(read, T + WEEK, WEEK, now=NOW)
    with pytest.raises(DataError, match=r"on record with a maturity of 7 days"):
        build(read, T + WEEK, timedelta(days=8), now=NOW)
    with pytest.raises(DataError, match="isn't in the lake"):
        load(read, "s3://elsewhere/datasets/x")


def test_a_moment_that_has_not_come_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    read, lake = lake_at(tmp_path)
    append_past(lake, transactions(15), None, query="past")
    with pytest.raises(ConfigError, match=r"2026-02-01T00:00:00Z isn't known yet: it is 2026-01-31T23:59:59Z"):
        build(read, T, WEEK, now=T - timedelta(seconds=1))
    assert lake.place.sizes("datasets") == {}
    assert build(read, T, WEEK, now=T).manifest.created_at == "2026-02-01T00:00:00.000Z"


def test_a_manifest_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, lake = lake_at(tmp_path)
    append_past(lake, transactions(15), None, query="past")
    before = build(read, T, WEEK, now=NOW)

    def broken(_path: Path, raw: bytes) -> int:
        with _path.open("wb") as file:
            file.write(raw[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", broken)
    with pytest.raises(DataError, match="No space left on device"):
        replace(lake, "datasets/2026-02-01T000000.000Z", before.manifest)
    monkeypatch.undo()
    assert load(read, before.uri).manifest == before.manifest
    assert sorted(lake.place.sizes("datasets/2026-02-01T000000.000Z")) == [
        "manifest.json",
        *(part.name for part in before.manifest.parts),
    ]


def test_one_class_and_a_file_cut_short_are_named(tmp_path: Path) -> None:
    read, lake = lake_at(tmp_path)
    append_past(lake, transactions(15), None, query="past")
    dataset = build(read, T, WEEK, now=NOW)
    with pytest.raises(DataError, match="one class only"):
        check(dataset)
    part = Path(dataset.uri) / dataset.manifest.parts[0].name
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(DataError, match="has 100 bytes of"):
        to_rows(dataset)


def test_the_command_prints_where_it_is_and_checks_it(tmp_path: Path) -> None:
    read, lake = lake_at(tmp_path)
    append_past(lake, transactions(15), labels([(1, True, -3, False)]), query="past")
    environment = read.environment()

    def run(*words: str) -> dict[str, object]:
        done = CliRunner().invoke(app, ["dataset", *words, "--json"], env=environment, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return dict(json.loads(done.stdout.splitlines()[-1]))

    built = run("--as-of", "2026-02-01")
    assert (built["rows"], built["frauds"]) == (15, 1)
    assert run("--as-of", "2026-02-01", "--again")["sha256"] == built["sha256"]
    assert run("--check", str(built["uri"]))["fraud_rate"] == pytest.approx(1 / 15)


def test_a_dataset_is_a_place_and_a_manifest(tmp_path: Path) -> None:
    read, lake = lake_at(tmp_path)
    append_past(lake, transactions(15), None, query="past")
    dataset = build(read, T, WEEK, now=NOW)
    assert isinstance(dataset, Dataset)
    assert load(read, dataset.uri).manifest == dataset.manifest
