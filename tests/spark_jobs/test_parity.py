"""Parity through Spark: the same events through Kafka and the real job, offline, and one by one, are equal.

The hostile stream (tests/spark_jobs/hostile_stream.py) goes twice through one Kafka: beside merchant profiles
that know the future, and beside ones that don't, both loaded up to after the stream's end. Besides, the
Handbook's file by the commands that a user types.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fraud import parity, profiles
from fraud.backfill import load
from fraud.builder import bulk_changes, last_quarter, pack_profiles
from fraud.codec import Refused, parse_time
from fraud.features import FEATURE_NAMES, INTEGER_FEATURES
from fraud.features.kernel import DELAY_QUARTERS
from fraud.parity import topics
from fraud.parity.columns import Messages
from fraud.schema import Transaction
from fraud.settings import Settings
from fraud.store import open_store
from fraud.store.base import Store
from fraud.times import format_time
from producer.tables import write_tables
from spark_jobs.score import clock
from tests import servers
from tests.spark_jobs import commands, jobs
from tests.spark_jobs.hostile_stream import HOUR_MS, STREAM, hostile, messages, past, simulation
from tests.spark_jobs.one_by_one import Said, differing, estimates

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]  # the servers and the job start slowly beside others

PARTITIONS = 2
LEAST = 100
BATCH = 300  # rows a micro-batch, or the whole stream would be one, and no history ever read again
HANDBOOK_ROWS = 20_000
HANDBOOK = "transactions_2018-04-01_2018-07-24.parquet"


@dataclass(frozen=True)
class Run:
    """The stream after the job: where each row stands, what was answered, and what `parity` reported."""

    sent: list[jobs.Source]
    answers: jobs.Answers
    topic: Messages
    report: dict[str, Any]

    def said(self) -> list[Any]:
        """Return the answers in the order of sending, without the moment at which each was made."""
        moments = {"scored_at", "rejected_at"}
        whole = [self.answers[source].json() for source in self.sent]
        return [{name: value for name, value in each.items() if name not in moments} for each in whole]


def last_read() -> int:
    """Return the last quarter-hour at which the stream reads profiles."""
    newest = max(parse_time(row.timestamp) for row in hostile().rows)
    return profiles.quarter_of(newest)


def changes() -> pl.DataFrame:
    return bulk_changes(past().transactions, past().labels)


def load_with_the_future(store: Store) -> None:
    load(past(), store, partitions=PARTITIONS, clock=clock)


def load_without_the_future(store: Store) -> None:
    """Load the same past, and of the profiles only what is effective by the stream's last quarter-hour."""
    load_with_the_future(store)
    store.profiles.wipe()
    known = changes().filter(pl.col("effective") <= last_read())
    store.profiles.load(pack_profiles(known), last_quarter(past().transactions))


def through_spark(
    kafka: Settings, home: Path, fill: Callable[[Settings], None], check: Callable[[Settings], Any]
) -> Run:
    """Send the stream through fresh topics and a job with a store and a checkpoint of its own."""
    servers.fresh_topics(kafka)
    settings = servers.settings(
        home, kafka_bootstrap=kafka.kafka_bootstrap, max_age_days=None, max_offsets_per_trigger=BATCH
    )
    fill(settings)
    jobs.publish_model(settings)
    with jobs.Job(settings) as job:
        job.start().wait_until_scoring()
        sent = jobs.produce(settings, [jobs.Message(*each) for each in messages(hostile().rows)])
        answers = jobs.answers(settings)
        assert job.stop() == 0, job.words()
    return Run(sent, answers, topics.read_transactions(settings.kafka_bootstrap), check(settings))


@pytest.fixture(scope="module")
def with_the_future(kafka: servers.Server, stack_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run by the commands: `backfill --until`, the job, `parity`."""
    home = tmp_path_factory.mktemp("parity")
    write_tables(simulation(), home / "past")

    def fill(settings: Settings) -> None:
        commands.call(settings, "backfill", str(home / "past"), "--until", format_time(STREAM[0]))

    return through_spark(stack_settings, home, fill, lambda settings: commands.result(settings, "parity"))


@pytest.fixture(scope="module")
def without_the_future(
    kafka: servers.Server, stack_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """The run by the library; parity knows the whole past, of which the store held a part."""

    def fill(settings: Settings) -> None:
        with closing(open_store(settings)) as store:
            load_without_the_future(store)

    def check(settings: Settings) -> dict[str, Any]:
        return parity.check(settings, past()).report()

    return through_spark(stack_settings, tmp_path_factory.mktemp("blind"), fill, check)


@pytest.fixture(scope="module", params=["with the future", "without the future"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    yield request.getfixturevalue(request.param.replace(" ", "_"))


@pytest.fixture(scope="module")
def one_by_one(with_the_future: Run) -> Said:
    return estimates(with_the_future.topic, load_with_the_future, PARTITIONS, now_ms=clock())


def test_the_stream_equals_the_offline_builder(run: Run) -> None:
    accepted = sum("decision" in answer for answer in run.said())
    assert run.report == {
        "rows": accepted,
        "compared": accepted,
        "stale": 0,
        "mismatches": 0,
        "by_feature": {},
    }
    assert accepted > 6_000
    assert not run.answers.differing()


def test_the_stream_is_hostile_enough(with_the_future: Run) -> None:
    predictions = with_the_future.answers.predictions.items()
    slices = {(source.partition, copies[0].json()["scored_at"]) for source, copies in predictions}
    assert len(slices) >= 2 * len(hostile().rows) / BATCH * 0.8, "or histories aren't read again"
    reasons = [answer.get("reason") for answer in with_the_future.said()]
    assert reasons.count("duplicate") >= LEAST
    assert reasons.count("conflicting_duplicate") >= LEAST
    answered = list(zip(hostile().kinds, reasons, strict=True))
    assert answered.count(("forgotten repeat", None)) >= LEAST, "repeats beyond the 512 arrivals that count"
    assert answered.count(("away", "duplicate")) >= 40, "repeats within 37 days"
    assert answered.count(("away", None)) >= 300 + 40, "repeats beyond them"
    fresh = [reason is None and kind != "forgotten repeat" for kind, reason in answered]
    behind = [late for late, counts in zip(lateness(hostile().rows), fresh, strict=True) if counts]
    for least in (1, 24, 30 * 24):
        assert sum(late >= least * HOUR_MS for late in behind) >= LEAST, f"events at least {least} hours late"
    assert sum(late > 37 * 24 * HOUR_MS for late in behind) >= 40
    matrix = features(with_the_future)
    known = dict(zip(FEATURE_NAMES, np.isfinite(matrix).sum(axis=0).tolist(), strict=True))
    assert min(known.values()) >= LEAST, known
    decided = {answer.get("decision") for answer in with_the_future.said()}
    assert decided >= {"APPROVE", "REVIEW"}


def test_score_one_says_the_same_before_each_row_is_applied(with_the_future: Run, one_by_one: Said) -> None:
    said = dict(zip(with_the_future.sent, with_the_future.said(), strict=True))
    assert set(one_by_one) == set(said)
    refused = {at: each.reason for at, each in one_by_one.items() if isinstance(each, Refused)}
    assert refused == {at: answer["reason"] for at, answer in said.items() if "reason" in answer}
    estimated = [(said[at], each) for at, each in one_by_one.items() if not isinstance(each, Refused)]
    stream = np.array([row(answer) for answer, _ in estimated])
    single = np.array([each.features for _, each in estimated])
    assert differing(stream, single, FEATURE_NAMES, INTEGER_FEATURES) == {}
    probabilities = np.array([[answer["fraud_probability"], each.probability] for answer, each in estimated])
    assert np.abs(probabilities[:, 0] - probabilities[:, 1]).max() <= 1e-9
    assert [answer["decision"] for answer, _ in estimated] == [each.decision for _, each in estimated]
    through = {each.profile_through for _, each in estimated}
    assert through == {last_quarter(past().transactions)}


def test_profiles_that_know_the_future_say_the_same(with_the_future: Run, without_the_future: Run) -> None:
    assert last_quarter(past().transactions) > last_read(), "profile_through must be ahead"
    in_windows = pl.col("quarter") < profiles.quarter_of(STREAM[0]) - DELAY_QUARTERS
    later = changes().filter((pl.col("effective") > last_read()) & in_windows)
    assert later["frauds"].abs().sum() >= LEAST, "or there is no future to look into"
    assert later["merchant_id"].n_unique() > 50
    assert with_the_future.sent == without_the_future.sent
    assert with_the_future.said() == without_the_future.said()


def lateness(rows: list[Transaction]) -> list[int]:
    """Return how long before the newest time of its customer each row lies, in ms; 0 for a new newest."""
    newest: dict[str, int] = {}
    behind = []
    for each in rows:
        time = parse_time(each.timestamp)
        newest[each.user_id] = max(time, newest.get(each.user_id, time))
        behind.append(newest[each.user_id] - time)
    return behind


def row(answer: dict[str, Any]) -> list[float]:
    values = [answer["features"][name] for name in FEATURE_NAMES]
    return [np.nan if value is None else float(value) for value in values]


def features(run: Run) -> Any:
    return np.array([row(answer) for answer in run.said() if "features" in answer])


def test_the_handbooks_file_replayed_equals_the_builder(
    kafka: servers.Server, stack_settings: Settings, shared_data: Path, tmp_path: Path
) -> None:
    """The commands of the README; a user's limit is 200,000."""
    servers.fresh_topics(stack_settings)
    # The commands find FRAUD_MAX_AGE_DAYS= (empty) in their environment.
    settings = servers.settings(tmp_path, kafka_bootstrap=stack_settings.kafka_bootstrap, max_age_days=None)
    jobs.publish_model(settings)
    file = str(shared_data / "handbook" / HANDBOOK)
    commands.call(settings, "backfill", "--merchants-only", file, "--format", "handbook")
    with commands.running(settings, "score", "--no-watch"):
        commands.call(settings, "replay", file, "--format", "handbook", "--limit", str(HANDBOOK_ROWS))
        servers.wait_for("all is answered", lambda: commands.answered(settings) >= HANDBOOK_ROWS, 120)
    said = commands.call(settings, "parity")
    assert said.strip() == f"{HANDBOOK_ROWS:,} transactions: {HANDBOOK_ROWS:,} compared, 0 stale, 0 mismatches"
