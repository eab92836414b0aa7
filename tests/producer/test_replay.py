"""A past is sent as it was: the chosen rows, in arrival order, with their labels."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import run

import polars as pl
import pytest

from fraud import bus, codec
from fraud.errors import ConfigError
from fraud.schema import Label, Transaction
from fraud.settings import Settings
from producer.bad import Bad, mix
from producer.publisher import publish
from producer.replay import age_warning, in_step, known_by, labels, read_past, replay, transactions
from producer.simulate import Config, Simulation, generate
from producer.tables import write_tables
from tests import servers
from tests.producer.test_publisher import consumed

START = datetime(2026, 1, 1, tzinfo=UTC)
WEEK = timedelta(days=7)


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return generate(Config(start=START, days=20, users=200, merchants=60, seed=6))


@pytest.fixture(scope="module")
def directory(simulation: Simulation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    write_tables(simulation, folder)
    return folder


def test_rows_become_the_same_messages(simulation: Simulation) -> None:
    sent = list(transactions(simulation.transactions))
    rows = simulation.transactions.rows(named=True)
    assert len(sent) == len(rows)
    for message, row in zip(sent[:200], rows, strict=False):
        when = row.pop("timestamp")
        assert codec.parse_time(message.timestamp) == round(when.timestamp() * 1000)
        assert {name: getattr(message, name) for name in row} == row
        assert codec.decode_transaction(codec.encode(message), message.user_id.encode()) == message
    first = next(labels(simulation.labels))
    assert codec.decode_label(codec.encode(first), first.user_id.encode()) == first


def test_since_until_and_limit_choose_rows_in_arrival_order(directory: Path, simulation: Simulation) -> None:
    times = simulation.transactions["timestamp"]
    since, until = times[1_000], times[2_000]  # the bounds are rows: one is in, the other isn't
    past = read_past(directory, "simulated", since=since, until=until)
    inside = [since <= at < until for at in times]
    assert past.transactions.equals(simulation.transactions.filter(pl.Series(inside)))
    assert 0 < past.transactions.height < simulation.transactions.height
    first = read_past(directory, "simulated", since=since, until=until, limit=10).transactions
    assert first.equals(past.transactions.head(10))


def test_labels_are_those_of_the_rows_as_they_became_known(directory: Path, simulation: Simulation) -> None:
    past = read_past(directory, "simulated", until=START + timedelta(days=15))
    sent = set(past.transactions["transaction_id"])
    assert past.labels.equals(simulation.labels.filter(pl.col("transaction_id").is_in(sent)))
    assert past.labels["labelled_at"].is_sorted()
    assert 0 < past.labels.height < simulation.labels.height


def test_what_was_unknown_of_older_rows_comes_back_too(directory: Path, simulation: Simulation) -> None:
    since = START + timedelta(days=5)
    past = read_past(directory, "simulated", since=since)
    wanted = simulation.labels.filter((pl.col("timestamp") >= since) | (pl.col("labelled_at") > since))
    assert past.labels.sort("labelled_at", "transaction_id").equals(wanted.sort("labelled_at", "transaction_id"))
    assert past.labels["labelled_at"].is_sorted()
    older = past.labels.filter(pl.col("timestamp") < since)
    assert 0 < older.height < simulation.labels.filter(pl.col("timestamp") < since).height
    exact = read_past(directory, "simulated", since=since, labels_after=WEEK).labels
    assert exact["timestamp"].min() < since  # type: ignore[operator]
    assert exact["labelled_at"].min() > since  # type: ignore[operator]


def test_a_label_goes_out_when_the_rows_have_reached_its_time(simulation: Simulation) -> None:
    rows = simulation.transactions.head(3_000)
    last = rows["timestamp"].max()
    mixed = mix(transactions(rows), 0.01, seed=1, clock=lambda: 0, max_age_days=None)
    order = list(in_step(mixed, labels(simulation.labels)))
    newest, waiting, counted = "", len(simulation.labels), 0
    for at, message in enumerate(order):
        if isinstance(message, Transaction):
            newest = max(newest, message.timestamp)
            counted += 1
        elif isinstance(message, Label):
            waiting -= 1
            if counted < len(rows):
                following = next(each for each in order[at:] if isinstance(each, Transaction))
                assert newest < message.labelled_at <= following.timestamp
            else:
                assert message.labelled_at > newest
    assert (counted, waiting) == (3_000, 0)
    assert sum(isinstance(each, Bad) for each in order) > 10
    before_end = simulation.labels.filter(pl.col("labelled_at") <= last).height
    assert 10 < before_end < len(simulation.labels)


def test_what_nobody_knows_yet_is_left_out(simulation: Simulation) -> None:
    now = simulation.labels["labelled_at"][100]
    known = known_by(simulation.labels, round(now.timestamp() * 1000))
    assert known.equals(simulation.labels.head(101))


def test_labels_after_follow_the_truth(directory: Path, simulation: Simulation) -> None:
    past = read_past(directory, "simulated", limit=4_000, labels_after=WEEK)
    rows = simulation.transactions.head(4_000).join(simulation.truth, on="transaction_id")
    frauds = rows.filter("is_fraud")
    assert set(past.labels["transaction_id"]) == set(frauds["transaction_id"])
    assert past.labels["is_fraud"].all()
    assert (past.labels["labelled_at"] - past.labels["timestamp"] == WEEK).all()
    assert past.labels["labelled_at"].is_sorted()


def test_the_handbooks_rows_have_labels_after_seven_days(shared_data: Path) -> None:
    (file,) = (shared_data / "handbook").glob("*.parquet")
    past = read_past(file, "handbook", limit=20_000)
    assert past.transactions.height == 20_000
    assert past.transactions["timestamp"].is_sorted()
    assert past.labels.height > 10
    assert (past.labels["labelled_at"] - past.labels["timestamp"] == WEEK).all()
    later = read_past(file, "handbook", since=datetime(2018, 5, 1, tzinfo=UTC), limit=100).transactions
    assert later.height == 100
    assert later["timestamp"][0] >= datetime(2018, 5, 1, tzinfo=UTC)
    assert later["timestamp"][-1] < datetime(2018, 5, 1, 3, tzinfo=UTC)


def test_old_rows_are_warned_of(simulation: Simulation) -> None:
    rows = simulation.transactions
    newest = round(rows["timestamp"].max().timestamp() * 1000)  # type: ignore[union-attr]
    warning = age_warning(rows, 7.0, newest)
    old = rows.filter(pl.col("timestamp") < rows["timestamp"].max() - WEEK).height  # type: ignore[operator]
    assert warning is not None
    assert warning.startswith(f"{old:,} of {rows.height:,} rows are older than FRAUD_MAX_AGE_DAYS=7")
    assert "FRAUD_MAX_AGE_DAYS= (empty)" in warning
    assert age_warning(rows, None, newest) is None
    assert age_warning(rows, 20.0, newest) is None
    assert age_warning(rows.head(0), 7.0, newest) is None


def test_a_directory_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no transactions.parquet; `fraud-detect simulate"):
        read_past(tmp_path, "simulated")


@pytest.mark.server
def test_a_replay_arrives_whole_with_its_mistakes(
    kafka: servers.Server, stack_settings: Settings, simulation: Simulation
) -> None:
    before = bus.end_offsets(stack_settings.kafka_bootstrap, bus.TRANSACTIONS)
    rows = simulation.transactions.head(2_000)
    now = round(START.timestamp() * 1000)
    done = replay(stack_settings, rows, clock=lambda: now, bad=0.02, seed=2)
    assert done.valid == 2_000
    assert done.bad == sum(done.expected.values()) > 10
    records = consumed(stack_settings, bus.TRANSACTIONS, "", before)
    wanted = list(transactions(rows))
    values = {codec.encode(message) for message in wanted}
    got = list(dict.fromkeys((r.key, r.value) for r in records if r.key is not None and r.value in values))
    for user in set(rows["user_id"]):
        mine = [value for key, value in got if key == user.encode()]
        assert mine == [codec.encode(message) for message in wanted if message.user_id == user]


@pytest.mark.server
def test_the_command_sends_rows_and_labels(kafka: servers.Server, stack_settings: Settings, directory: Path) -> None:
    bootstrap = stack_settings.kafka_bootstrap
    before = {topic: bus.end_offsets(bootstrap, topic) for topic in (bus.TRANSACTIONS, bus.LABELS)}
    command = [sys.executable, "-m", "fraud.cli", "replay", str(directory), "--limit", "3000", "--labels", "--json"]
    ended = run(command, env=servers.environment(stack_settings), capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "warning: 3,000 of 3,000 rows are older than FRAUD_MAX_AGE_DAYS=7" in ended.stderr
    result = json.loads(ended.stdout)
    past = read_past(directory, "simulated", limit=3_000)
    assert (result["valid"], result["bad"], result["labels"]) == (3_000, 0, past.labels.height)
    records = consumed(stack_settings, bus.LABELS, "", before[bus.LABELS])
    sent = [codec.decode_label(r.value, r.key) for r in records]
    assert all(isinstance(label, Label) for label in sent)
    assert sorted(r.value for r in records) == sorted(codec.encode(label) for label in labels(past.labels))
    assert len(consumed(stack_settings, bus.TRANSACTIONS, "", before[bus.TRANSACTIONS])) == 3_000


@pytest.mark.server
def test_a_speed_keeps_the_distances_of_events(
    kafka: servers.Server, stack_settings: Settings, simulation: Simulation
) -> None:
    rows = simulation.transactions.filter(pl.col("timestamp") < START + timedelta(hours=6))
    messages: list[Transaction | Bad] = list(transactions(rows))
    span = (rows["timestamp"].max() - rows["timestamp"][0]).total_seconds()
    done = publish(stack_settings, messages, speed=span)
    assert done.valid == rows.height
    assert 0.9 < done.seconds < 3
