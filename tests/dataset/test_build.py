"""A training set is there whole or not: what was cut short, damaged or made of too young a lake is healed or named."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest
from typer.testing import CliRunner

from fraud.backfill.archived import append_past
from fraud.cli.main import app
from fraud.dataset import Dataset, build, load, parts, to_rows
from fraud.dataset.check import check
from fraud.dataset.manifest import replace
from fraud.dataset.rows import Source
from fraud.errors import ConfigError, DataError
from fraud.lake import Lake
from fraud.lake.tables import LABELS
from fraud.settings import Settings
from tests.dataset.lakes import (
    FOLDER,
    NOW,
    WEEK,
    T,
    archive,
    labels,
    lake_at,
    streamed,
    transactions,
    two_builds_at_once,
)

COMMAND = r"`fraud-detect dataset --as-of 2026-02-01T00:00:00.000Z` builds the training set again"


@pytest.fixture
def made(tmp_path: Path) -> Dataset:
    """A training set of 15 rows and a fraud."""
    read, lake = lake_at(tmp_path)
    append_past(lake, transactions(15), labels([(1, True, -3, False)]), query="past")
    return build(read, T, WEEK, now=NOW)


def settings_of(dataset: Dataset) -> Settings:
    return Settings.load({}, home=Path(dataset.lake.place.uri).parent / "home", lake_uri=dataset.lake.place.uri)


def files(lake: Lake) -> dict[str, bytes]:
    return {name: lake.place.read(f"{FOLDER}/{name}") for name in lake.place.sizes(FOLDER)}


def test_what_is_loaded_is_what_was_built(made: Dataset) -> None:
    assert load(settings_of(made), made.uri).manifest == made.manifest
    with pytest.raises(DataError, match="isn't in the lake"):
        load(settings_of(made), "s3://elsewhere/datasets/x")
    with pytest.raises(DataError, match="there is no training set at"):
        load(settings_of(made), f"{made.uri}0")


def test_other_rows_of_the_same_cut_are_refused_and_take_nothings_place(
    made: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(made.lake)
    known = Source._verdicts
    # As if the code had changed: it knows of no label.
    monkeypatch.setattr(Source, "_verdicts", lambda source, users: known(source, users).clear())
    with pytest.raises(DataError, match=rf"built with the hash {made.manifest.sha256}, and the same cut gives"):
        build(settings_of(made), T, WEEK, now=NOW, again=True)
    after = files(made.lake)
    assert {name: after[name] for name in before} == before
    assert to_rows(load(settings_of(made), made.uri)).frauds.sum() == 1


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def altered(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("damage", "what"),
    [(cut_short, r"has 100 bytes of \d+"), (Path.unlink, "can't be read"), (altered, r"hasn't the hash \w{64}")],
)
def test_a_damaged_file_is_named_and_built_again_from_the_cut(made: Dataset, damage: object, what: str) -> None:
    before = files(made.lake)
    name = made.manifest.parts[0].name
    damage(Path(made.uri) / name)  # type: ignore[operator]
    found = load(settings_of(made), made.uri)
    for use in (to_rows, check):
        with pytest.raises(DataError, match=rf"{name} {what}.*; {COMMAND}"):
            use(found)
    late = streamed(labels([(2, True, -3, False)]), 0, T)
    made.lake.append(LABELS, late.to_arrow(), query="q", batch=0)
    said: list[str] = []
    again = build(settings_of(made), T, WEEK, said.append, now=NOW)
    assert "building it again from its cut" in said[0]
    assert again.manifest == made.manifest
    assert files(made.lake) == before
    assert to_rows(again).frauds.sum() == 1


def test_a_maturity_of_its_own_is_part_of_the_command(tmp_path: Path) -> None:
    read, lake = lake_at(tmp_path)
    append_past(lake, transactions(15), None, query="past")
    made = build(read, T, timedelta(days=16), now=NOW)
    cut_short(Path(made.uri) / made.manifest.parts[0].name)
    with pytest.raises(DataError, match=r"--as-of 2026-02-01T00:00:00.000Z --maturity 1382400s` builds"):
        to_rows(made)


def test_a_build_that_was_cut_short_goes_on_with_its_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, lake = lake_at(tmp_path)
    append_past(lake, transactions(15), None, query="past")
    with monkeypatch.context() as broken:
        broken.setattr(parts, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build(read, T, WEEK, now=NOW)
    uri = f"{lake.place.uri}/{FOLDER}"
    with pytest.raises(
        DataError, match=r"hasn't finished at .*; `fraud-detect dataset --as-of 2026-02-01T\S+` goes on"
    ):
        load(read, uri)
    lake.append(LABELS, streamed(labels([(1, True, -3, False)]), 0, T).to_arrow(), query="q", batch=0)
    assert build(read, T, WEEK, now=NOW).manifest.frauds == 0
    assert load(read, uri).manifest.frauds == 0


def test_a_lake_that_is_too_young_leaves_nothing_behind_and_may_grow(tmp_path: Path) -> None:
    read, lake = lake_at(tmp_path)
    with pytest.raises(DataError, match="is empty: nothing was archived yet"):
        build(read, T, WEEK, now=NOW)
    rows = transactions(15).filter(pl.col("timestamp") > T - timedelta(days=17))
    archive(lake, rows, T - timedelta(days=16))
    with pytest.raises(DataError, match="no transaction in the lake was 20 days old at 2026-02-01"):
        build(read, T, timedelta(days=20), now=NOW)
    assert lake.place.sizes("datasets") == {}
    append_past(lake, transactions(1), None, query="past")
    assert build(read, T, timedelta(days=20), now=NOW).manifest.rows == 1


def test_what_is_on_record_is_not_built_in_another_way(made: Dataset) -> None:
    with pytest.raises(DataError, match=r"on record with a maturity of 7 days, not of 8 days"):
        build(settings_of(made), T, timedelta(days=8), now=NOW)
    replace(made.lake, FOLDER, msgspec.structs.replace(made.manifest, feature_version="0-old"))
    with pytest.raises(DataError, match="built with the features 0-old"):
        build(settings_of(made), T, WEEK, now=NOW)


def test_a_moment_that_has_not_come_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    read, lake = lake_at(tmp_path)
    append_past(lake, transactions(15), None, query="past")
    with pytest.raises(ConfigError, match=r"2026-02-01T00:00:00Z isn't known yet: it is 2026-01-31T23:59:59Z"):
        build(read, T, WEEK, now=T - timedelta(seconds=1))
    assert lake.place.sizes("datasets") == {}
    assert build(read, T, WEEK, now=T).manifest.created_at == "2026-02-01T00:00:00.000Z"


@pytest.mark.parametrize(
    "words",
    [("dataset",), ("train", "--no-register", "--candidates", "0")],
)
def test_the_commands_make_it_by_the_clock_of_now(tmp_path: Path, words: tuple[str, ...]) -> None:
    """What upkeep keeps goes by when it was made, not by its moment. Training has too few frauds and says so."""
    read, lake = lake_at(tmp_path)
    append_past(lake, transactions(15), None, query="past")
    began = datetime.now(UTC)
    CliRunner().invoke(app, [*words, "--as-of", "2026-02-01"], env=read.environment())
    created = json.loads(lake.place.read(f"{FOLDER}/manifest.json"))["created_at"]
    assert began - timedelta(milliseconds=1) <= datetime.fromisoformat(created) <= datetime.now(UTC)
    done = CliRunner().invoke(app, [*words, "--as-of", "2099-01-01"], env=read.environment())
    assert done.exit_code != 0
    assert isinstance(done.exception, ConfigError)


def test_a_manifest_is_replaced_whole_or_not_at_all(made: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(made.lake)

    def full(path: Path, raw: bytes) -> int:
        with path.open("wb") as file:
            file.write(raw[:20])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "write_bytes", full)
        with pytest.raises(DataError, match="No space left on device"):
            replace(made.lake, FOLDER, made.manifest)
    assert files(made.lake) == before


def test_two_builds_at_once_come_to_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_builds_at_once(*lake_at(tmp_path), monkeypatch)
