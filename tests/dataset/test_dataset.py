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
from fraud.dataset import build, to_rows
from fraud.dataset.check import check
from fraud.features import FEATURE_NAMES
from fraud.lake.tables import LABELS, PREDICTIONS
from fraud.training import labelled_rows
from producer.simulate import Config, generate
from tests.dataset.lakes import NOW, WEEK, T, archive, labels, lake_at, prediction, streamed, transactions

SIMPLE = hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


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


LABEL = st.tuples(st.integers(0, 16), st.booleans(), st.sampled_from([-25, -8, -1, 0, 1, 365]), st.booleans())


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


def test_features_are_those_that_the_model_saw_once_however_often_it_was_published(tmp_path: Path) -> None:
    read, lake = lake_at(tmp_path)
    rows = transactions(15)
    archive(lake, rows, T - WEEK)
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


@pytest.mark.parametrize("turned", [False, True])
def test_a_prediction_answers_the_record_of_its_topic_and_none_that_is_newer(tmp_path: Path, turned: bool) -> None:
    """A topic that was made anew, with the same records at the same offsets, and a past with them besides."""
    read, lake = lake_at(tmp_path)
    rows = transactions(3)
    append_past(lake, rows, None, query="past")
    archive(lake, rows, T - 3 * WEEK, batch=0, topic_id="zz")
    archive(lake, rows, T - WEEK, batch=1, topic_id="aa")
    answers = [
        streamed(prediction(rows, amount=1.0), 0, T - 3 * WEEK, "z"),
        streamed(prediction(rows, amount=2.0), 3, T - 2 * WEEK, "z"),  # as no repeat is: of other bytes
        streamed(prediction(rows.head(2), amount=3.0), 0, T - WEEK, "a"),
    ]
    for batch, answer in enumerate(reversed(answers) if turned else answers):
        lake.append(PREDICTIONS, answer.to_arrow(), query="q", batch=batch)
    dataset = build(read, T, WEEK, now=NOW)
    assert dataset.manifest.rebuilt_rows == 3 + 1  # what was loaded, and the newer t2, whose answer isn't there yet
    rate = FEATURE_NAMES.index("merchant_fraud_rate_30d")
    found = to_rows(dataset).matrix[:, rate].tolist()
    # Of each transaction: loaded (no profile then, so nothing), answered first, answered by the newer topic.
    assert [None if np.isnan(value) else value for value in found] == [None, 1.0, 3.0, None, 1.0, 3.0, None, 1.0, None]


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
