"""Collecting without a model, and a store made anew from lake and tails: nothing that is said afterwards tells.

Real Kafka, Spark and archive job, a lake in a folder: traffic without a model, a kill, a promotion, traffic, part of
it archived, the store deleted, `rebuild`, traffic again. All of it is compared with a job that nothing happened to.
"""

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import polars as pl
import pytest

from fraud import backfill, bus
from fraud.codec import format_time
from fraud.lake import open_lake, read
from fraud.lake.tables import PROFILE_CHANGES
from fraud.profiles import unpack
from fraud.settings import Settings
from fraud.store import open_store
from fraud.store.base import PartitionKey, Store
from tests import servers
from tests.spark_jobs import archiving, jobs, load, uninterrupted

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]

SEED = 4
ROWS = 400  # each time that something is sent
VERDICTS = 20
# What belongs to the run, its clock and the archive job's progress, and not to the transaction.
OF_THE_RUN = {*uninterrupted.OF_THE_RUN, "profile_through"}


@dataclass(frozen=True)
class Dump:
    """What a store holds, byte for byte."""

    state: uninterrupted.State
    collected: dict[int, list[list[int]]]
    profiles: dict[str, list[tuple[int, ...]]]
    through: int | None
    applied: str | None


@dataclass(frozen=True)
class Outcome:
    """What is left at the end."""

    past: backfill.Past
    before: Dump
    rebuilt: Dump
    last: Dump
    archived: pl.DataFrame  # the lake's changes at the end
    said: dict[str, Any]  # the command's JSON
    refused: list[subprocess.CompletedProcess[str]]
    answers: jobs.Answers
    expected: uninterrupted.Uninterrupted


def now() -> int:
    return time.time_ns() // 1_000_000


def whole_past() -> backfill.Past:
    """Return a past with all that the lake's tables want."""
    past = load.merchants_past(now())
    assert past.labels is not None
    whose = ["transaction_id", "user_id"]
    about = past.transactions.select(*whose, "merchant_id", "timestamp")
    labels = past.labels.join(about, on=whose, maintain_order="left").with_columns(pl.lit("simulator").alias("source"))
    return backfill.Past(past.transactions.with_columns(pl.lit("EUR").alias("currency")), labels)


def verdicts(past: backfill.Past, number: int) -> list[dict[str, Any]]:
    """Return labels that say of some of the past's good transactions that they were fraud."""
    assert past.labels is not None
    good = past.transactions.join(past.labels, on="transaction_id", how="anti").filter(
        pl.col("timestamp") < pl.col("timestamp").max() - pl.duration(days=8)
    )
    about = good.select("transaction_id", "user_id", "merchant_id", "timestamp")
    return [
        row | {"timestamp": format_time(int(row["timestamp"].timestamp() * 1000))}
        for row in about.slice(number * VERDICTS, VERDICTS).iter_rows(named=True)
    ]


def tell(settings: Settings, about: list[dict[str, Any]]) -> None:
    """Send labels about these transactions."""
    archiving.send(
        settings,
        [
            archiving.Sent(
                bus.LABELS,
                row["user_id"].encode(),
                json.dumps(
                    row | {"is_fraud": True, "labelled_at": format_time(now() - 1_000), "source": "analyst"}
                ).encode(),
            )
            for row in about
        ],
    )


def archived(settings: Settings) -> None:
    """Let the archive job run until the lake holds what the topics hold."""
    with archiving.Archive(settings) as job:
        job.start().ready()
        archiving.caught_up(settings)
        assert job.stop() == 0, job.log


def keys(settings: Settings) -> list[PartitionKey]:
    topic = bus.describe(settings.kafka_bootstrap, bus.TRANSACTIONS)
    return [PartitionKey(topic.id, number) for number in range(topic.partitions)]


def dump(settings: Settings) -> Dump:
    store = open_store(settings)
    try:
        return Dump(
            uninterrupted.state_of(store, settings.topic_partitions),
            {key.partition: store.histories.collected(key).tolist() for key in keys(settings)},
            {name: unpack([raw]).changes.tolist() for name, raw in store.profiles.merchants()},
            store.profiles.through(),
            store.profiles.applied(),
        )
    finally:
        store.close()


def decided(settings: Settings, store: Store) -> bool:
    ends = bus.end_offsets(settings.kafka_bootstrap, bus.TRANSACTIONS)
    return {key.partition: at for key, at in store.histories.positions().items()} == ends


def wait_until_decided(settings: Settings, job: jobs.Job, store: Store) -> None:
    def done() -> bool:
        assert job.returncode is None, job.words()
        return decided(settings, store)

    servers.wait_for("everything sent is decided or collected", done, 120)


def wait_until_answered(settings: Settings) -> jobs.Answers:
    """Wait until every offset that wasn't collected has an answer."""
    held = dump(settings).collected
    ends = bus.end_offsets(settings.kafka_bootstrap, bus.TRANSACTIONS)
    every = {jobs.Source(number, offset) for number, end in ends.items() for offset in range(end)}
    without = {
        jobs.Source(number, offset)
        for number, part in held.items()
        for start, end in part
        for offset in range(start, end)
    }
    return jobs.answers(settings, wanted=every - without)


def command(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fraud.cli", *words],
        env=servers.environment(settings),
        cwd=servers.REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def outcome(
    kafka: servers.Server, stack_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outcome]:
    servers.fresh_topics(stack_settings)
    home = tmp_path_factory.mktemp("rebuild")
    settings = servers.settings(home, kafka_bootstrap=stack_settings.kafka_bootstrap, lake_uri=str(home / "lake"))
    traffic = load.mixed(random.Random(SEED))
    past = whole_past()
    store = open_store(settings)
    archive = backfill.Archive(open_lake(settings), "backfill/of-a-test")
    backfill.load(past, store, partitions=settings.topic_partitions, clock=now, archive=archive)
    with jobs.Job(settings) as job:
        job.start().wait_for_log("collecting transactions")
        jobs.produce(settings, islice(traffic, ROWS))
        wait_until_decided(settings, job, store)
        job.fault("committed", "hold")
        jobs.produce(settings, islice(traffic, ROWS))
        job.wait_until_held()
        job.kill("driver")  # between the store's commit and its output
        job.start().wait_for_log("collecting transactions")
        job.release()
        wait_until_decided(settings, job, store)
        jobs.publish_model(settings)
        job.wait_until_scoring()
        jobs.produce(settings, islice(traffic, ROWS))
        wait_until_decided(settings, job, store)
        wait_until_answered(settings)
        tell(settings, verdicts(past, 0))
        archived(settings)
        jobs.produce(settings, islice(traffic, ROWS))  # in the topics' tails only
        wait_until_decided(settings, job, store)
        wait_until_answered(settings)
        refused = [command(settings, "rebuild", "--yes")]
        assert job.stop() == 0, job.words()
        refused.append(command(settings, "rebuild"))
        store.close()
        before = dump(settings)
        shutil.rmtree(settings.data / "store")
        done = command(settings, "rebuild", "--json")
        assert done.returncode == 0, done.stderr
        rebuilt = dump(settings)
        jobs.publish_model(settings)
        job.start().wait_until_scoring()
        jobs.produce(settings, islice(traffic, ROWS))
        answers = wait_until_answered(settings)
        assert job.stop() == 0, job.words()
    tell(settings, verdicts(past, 1))
    archived(settings)
    last = dump(settings)
    expected = uninterrupted.run(settings, past)
    yield Outcome(
        past,
        before,
        rebuilt,
        last,
        read.changes(open_lake(settings).scan(PROFILE_CHANGES)),
        json.loads(done.stdout.splitlines()[-1]),
        refused,
        answers,
        expected,
    )


def test_every_offset_is_answered_or_collected_and_none_is_both(outcome: Outcome) -> None:
    collected = {
        jobs.Source(number, offset)
        for number, part in outcome.last.collected.items()
        for start, end in part
        for offset in range(start, end)
    }
    assert len(collected) > ROWS
    assert not collected & outcome.answers.by_source.keys()
    assert collected | outcome.answers.by_source.keys() == outcome.expected.said.keys()


def test_repeats_are_the_same_bytes(outcome: Outcome) -> None:
    assert outcome.answers.repeats > 0  # the kill hit a batch between its commit and its output
    assert outcome.answers.differing() == []


def test_everything_said_equals_an_uninterrupted_run(outcome: Outcome) -> None:
    """Predictions with all features, exactly; rejections with reason, field and original."""

    def essence(said: dict[str, Any]) -> dict[str, Any]:
        return {name: one for name, one in said.items() if name not in OF_THE_RUN}

    for source, copies in outcome.answers.by_source.items():
        assert essence(copies[0].json()) == essence(outcome.expected.said[source]), source


def test_the_state_equals_an_uninterrupted_runs(outcome: Outcome) -> None:
    assert outcome.last.state == outcome.expected.state


def test_a_rebuilt_store_holds_what_the_deleted_one_held(outcome: Outcome) -> None:
    assert outcome.rebuilt.state.positions == outcome.before.state.positions
    assert outcome.rebuilt.state.histories == outcome.before.state.histories
    assert outcome.rebuilt.collected == outcome.before.collected
    assert outcome.rebuilt.profiles == outcome.before.profiles
    assert (outcome.rebuilt.through, outcome.rebuilt.applied) == (outcome.before.through, outcome.before.applied)
    assert outcome.before.applied is not None


def test_the_archive_job_goes_on_in_the_rebuilt_profiles(outcome: Outcome) -> None:
    names = ["quarter", "effective", "transactions", "frauds"]
    wanted = {
        str(merchant): rows.select(names).rows()
        for (merchant,), rows in outcome.archived.group_by("merchant_id", maintain_order=True)
    }
    assert outcome.last.profiles == wanted
    assert outcome.last.applied != outcome.rebuilt.applied
    collected = sum(end - start for part in outcome.last.collected.values() for start, end in part)
    assert outcome.past.labels is not None
    assert outcome.archived["frauds"].sum() == len(outcome.past.labels) + 2 * VERDICTS
    accepted = len(outcome.past.transactions) + len(outcome.answers.predictions) + collected
    assert outcome.archived["transactions"].sum() == accepted


def test_the_command_says_what_it_made(outcome: Outcome) -> None:
    said, held = outcome.said, outcome.rebuilt
    assert said["positions"] == {str(number): at for number, at in held.state.positions.items()}
    assert said["users"] == len(held.state.histories)
    assert said["merchants"] == len(held.profiles)
    assert said["applied"] == held.applied
    total = sum(end - start for part in held.collected.values() for start, end in part)
    assert (said["collected"], said["expired"]) == (total, 0)


def test_it_is_refused_beside_a_job_and_unasked(outcome: Outcome) -> None:
    beside, unasked = outcome.refused
    assert beside.returncode == 1
    assert "the lease `score` is held by pid" in beside.stderr
    assert unasked.returncode == 2
    assert "--yes" in unasked.stderr
