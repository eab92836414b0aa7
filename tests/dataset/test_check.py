"""A training set that can't be right is refused with every reason; what is only odd is said."""

import math
import re
from datetime import UTC, datetime

import msgspec
import polars as pl
import pytest

from fraud.backfill.archived import append_past
from fraud.dataset import Dataset, build, parts
from fraud.dataset.check import RANGES, check
from fraud.dataset.content import content_hash, hashes
from fraud.errors import DataError
from fraud.features import FEATURE_NAMES
from producer.simulate import Config, generate
from tests.dataset.lakes import FOLDER, NOW, WEEK, T, lake_at


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    read, lake = lake_at(tmp_path_factory.mktemp("check"))
    past = generate(Config(start=datetime(2026, 1, 1, tzinfo=UTC), days=31, users=100, merchants=30))
    append_past(lake, past.transactions, past.labels, query="past")
    return build(read, T, WEEK, now=NOW)


def altered(dataset: Dataset, **columns: pl.Expr) -> Dataset:
    """Return the training set as it would be if its first file had been built with other values."""
    first, *others = dataset.manifest.parts
    rows = dataset.part(first).with_columns(**columns)
    part = parts.write(dataset.lake, FOLDER, rows)
    known = pl.concat([rows, *(dataset.part(other) for other in others)]).sort("timestamp", "user_id", "transaction_id")
    changed = msgspec.structs.replace(
        dataset.manifest,
        parts=(part, *others),
        frauds=int(known["is_fraud"].sum()),
        sha256=content_hash(hashes(known)),
    )
    return Dataset(dataset.uri, changed, dataset.lake)


def in_row_3(name: str, value: float) -> pl.Expr:
    return pl.when(pl.int_range(pl.len()) == 3).then(pl.lit(value)).otherwise(pl.col(name))


def test_what_was_built_is_fit(made: Dataset) -> None:
    found = check(made)
    assert (found.rows, found.frauds) == (made.manifest.rows, made.manifest.frauds)
    assert 0 < found.fraud_rate < 0.5
    rows = pl.concat([made.part(part) for part in made.manifest.parts])
    assert found.missing == {name: pytest.approx(rows[name].null_count() / len(rows)) for name in FEATURE_NAMES}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amount", -1.0),
        ("amount", 2e7),
        ("hour_of_day", 24.0),
        ("day_of_week", -1.0),
        ("is_night", 2.0),
        ("country_change_flag", -1.0),
        ("user_txn_count_24h", -1.0),
        ("merchant_txn_count_7d", -1.0),
        ("merchant_fraud_rate_30d", 1.01),
        ("rolling_avg_7d", math.inf),
        ("rolling_avg_7d", -math.inf),
        ("speed_kmh", math.nan),
    ],
)
def test_a_value_that_cannot_be_is_named(made: Dataset, name: str, value: float) -> None:
    low, high = RANGES.get(name, (-math.inf, math.inf))
    with pytest.raises(
        DataError, match=rf"can't be used: {name} lies between .*; {re.escape(f'{low:g} to {high:g}')} is possible$"
    ):
        check(altered(made, **{name: in_row_3(name, value)}))


def test_labels_that_cannot_be_right_are_named(made: Dataset) -> None:
    with pytest.raises(DataError, match=r"0 of [\d,]+ rows are frauds: there is one class only"):
        check(altered(made, is_fraud=pl.lit(False)))
    with pytest.raises(DataError, match=r"67% of the rows are frauds: labels can't be right"):
        check(altered(made, is_fraud=pl.int_range(pl.len()) % 3 != 0))


def test_a_column_of_nothing_is_said_and_without_amounts_nothing_can_be_learnt(made: Dataset) -> None:
    nothing = pl.lit(None, pl.Float64)
    assert check(altered(made, speed_kmh=nothing)).warnings[0] == "speed_kmh is missing in every row"
    with pytest.raises(DataError, match="of amount there is no value"):
        check(altered(made, amount=nothing))


def test_a_week_without_fraud_is_said(made: Dataset) -> None:
    newest = pl.col("timestamp") > T - 2 * WEEK
    weeks = 1 + (T - WEEK - datetime(2026, 1, 1, tzinfo=UTC)).days // 7
    without = check(altered(made, is_fraud=pl.col("is_fraud") & ~newest)).warnings
    assert f"1 of {weeks} weeks have no fraud" in without


def test_a_manifest_that_is_not_of_these_rows_is_named(made: Dataset) -> None:
    known = made.manifest
    other = msgspec.structs.replace(known, rows=known.rows + 1)
    with pytest.raises(DataError, match=rf"its files hold {known.rows:,} rows .* says {known.rows + 1:,}"):
        check(Dataset(made.uri, other, made.lake))
    other = msgspec.structs.replace(known, sha256="0" * 64)
    with pytest.raises(DataError, match=rf"its rows have the hash {known.sha256}, its manifest says 0{{64}}"):
        check(Dataset(made.uri, other, made.lake))


def test_every_fault_is_said_at_once(made: Dataset) -> None:
    broken = altered(
        made, is_fraud=pl.lit(False), hour_of_day=in_row_3("hour_of_day", 25), is_night=in_row_3("is_night", 3)
    )
    with pytest.raises(DataError, match=r"one class only.*; hour_of_day lies .*; is_night lies"):
        check(broken)
