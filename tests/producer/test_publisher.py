"""What is published: paced, checked, acknowledged one by one, also while Kafka is away for a while."""

import gc
import json
import logging
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count, islice
from typing import Any

import msgspec
import pytest

from fraud import bus, codec
from fraud.errors import ConfigError, DataError, ServiceError, StateError
from fraud.schema import Label, Transaction, json_schema
from fraud.settings import Settings
from fraud.validation import validator
from producer.bad import Bad, mix
from producer.check import STRUCTURE, Check
from producer.live import Live
from producer.pace import MAX_DEBT_S, Speed, Steady
from producer.publisher import Published, publish
from producer.simulate import Config, generate
from tests import servers

NOW = codec.parse_time("2026-03-01T12:00:00Z")


@pytest.fixture
def dropped_sockets(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Let the sockets go within the test that kafka-python drops without closing when it is refused."""
    caplog.set_level(logging.CRITICAL, logger="kafka")  # its tracebacks would hold them
    yield
    gc.collect()


def stream(prefix: str, n: int | None = None) -> Iterator[Transaction]:
    """Transactions of seven users."""
    numbers = count() if n is None else iter(range(n))
    for i in numbers:
        yield Transaction(f"{prefix}{i}", f"u{i % 7}", "m1", codec.format_time(NOW + i), 1.0 + i, "EUR")


def consumed(settings: Settings, topic: str, prefix: str, since: dict[int, int]) -> list[Any]:
    """Return the records from `since` to the end whose transaction has the prefix."""
    from kafka import TopicPartition

    ends = bus.end_offsets(settings.kafka_bootstrap, topic)
    found = []
    with bus.consumer(settings.kafka_bootstrap) as client:
        parts = [TopicPartition(topic, part) for part in ends]
        client.assign(parts)
        for part in parts:
            client.seek(part, since[part.partition])

        def finished() -> bool:
            for records in client.poll(timeout_ms=200).values():
                found.extend(records)
            return all(client.position(part) >= ends[part.partition] for part in parts)

        servers.wait_for(f"{topic} is read to its end", finished, 30, 0)
    return [r for r in found if r.value and b'"%s' % prefix.encode() in r.value]


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run(pace: Steady | Speed, clock: Clock, times: list[int]) -> list[float]:
    """Return when each message goes."""
    gone = []
    for event_ms in times:
        while (nap := pace.wait(event_ms)) > 0:
            clock.now += nap
        gone.append(clock.now - 100.0)
    return gone


def test_a_steady_pace_keeps_its_rate_in_small_batches() -> None:
    clock = Clock()
    gone = run(Steady(1_000, clock), clock, [0] * 2_001)
    assert gone[-1] == pytest.approx(2.0, abs=0.011)
    assert max(gone.count(moment) for moment in set(gone)) <= 11


def test_a_slow_pace_waits_for_each_message() -> None:
    clock = Clock()
    assert run(Steady(0.5, clock), clock, [0] * 3) == pytest.approx([0.0, 2.0, 4.0])


def test_a_pause_isnt_made_up_for_by_a_burst() -> None:
    clock = Clock()
    pace = Steady(1_000, clock)
    run(pace, clock, [0] * 10)
    clock.now += 60.0
    paused = clock.now - 100.0
    gone = run(pace, clock, [0] * 1_000)
    assert sum(moment <= paused for moment in gone) == pytest.approx(1_000 * MAX_DEBT_S, abs=2)


def test_a_speed_keeps_the_distances_and_late_events_wait_for_nothing() -> None:
    clock = Clock()
    gone = run(Speed(60, clock), clock, [NOW, NOW + 60_000, NOW - 600_000, NOW + 120_000])
    assert gone == pytest.approx([0.0, 1.0, 1.0, 2.0])


@pytest.mark.parametrize("pace", [Steady, Speed])
@pytest.mark.parametrize("number", [0.0, -1.0, float("nan")])
def test_a_pace_that_never_sends_is_refused(pace: type[Steady] | type[Speed], number: float) -> None:
    with pytest.raises(ConfigError, match="give more than 0"):
        pace(number)


@pytest.mark.parametrize("name", ["transaction", "label"])
def test_a_message_schema_is_its_fields_schemas(name: str) -> None:
    schema = json_schema(name)
    assert set(schema) <= STRUCTURE
    kind: type[Transaction | Label] = Transaction if name == "transaction" else Label
    assert set(schema["properties"]) == set(kind.__struct_fields__)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", 0),
        ("amount", float("nan")),
        ("amount", True),
        ("amount", "1"),
        ("user_id", ""),
        ("user_id", "u\n"),
        ("user_id", 1),
        ("timestamp", "2026-02-30T00:00:00Z"),
        ("currency", None),
        ("merchant_category", True),
        ("channel", "cash"),
        ("latitude", 91.0),
    ],
)
def test_a_broken_field_is_named(field: str, value: object) -> None:
    message = msgspec.structs.replace(next(stream("t")), **{field: value})
    assert not validator("transaction").is_valid(msgspec.structs.asdict(message))
    check = Check(Transaction)
    check(next(stream("t")))
    with pytest.raises(DataError, match=f"transaction 't0': {field} breaks its rule"):
        check(message)


def test_field_by_field_gives_the_whole_schemas_verdict() -> None:
    odd: list[object] = [
        None,
        True,
        0,
        1,
        -90.5,
        180,
        1e300,
        float("inf"),
        "",
        "x",
        "x" * 65,
        "EUR",
        "DE",
        "5411",
        "pos",
        "a\n",
        [],
        {},
    ]
    whole, check, good = validator("transaction"), Check(Transaction), next(stream("t"))
    verdicts = set()
    for _again in range(2):  # the second time from memory
        for field in Transaction.__struct_fields__:
            for value in odd:
                message = msgspec.structs.replace(good, **{field: value})
                wanted = whole.is_valid(msgspec.structs.asdict(message))
                try:
                    check(message)
                except DataError:
                    assert not wanted, (field, value)
                else:
                    assert wanted, (field, value)
                verdicts.add(wanted)
    assert verdicts == {True, False}


def test_live_traffic_is_of_the_simulated_users_now() -> None:
    config = Config(start=datetime(2026, 1, 1, tzinfo=UTC), users=50, merchants=30, seed=4)
    clock = iter(range(NOW, NOW + 100_000))
    sent = list(islice(Live(config, lambda: next(clock)), 9_000))  # more than a round: 60 days of 50 users
    assert {t.user_id for t in sent} == set(generate(replace(config, days=60)).transactions["user_id"])
    assert len({t.transaction_id for t in sent}) == 9_000
    assert [t.timestamp for t in sent] == [codec.format_time(NOW + 1 + i) for i in range(9_000)]
    check = Check(Transaction)
    for transaction in sent[:500]:
        check(transaction)


def test_live_frauds_become_known_after_their_time_and_nothing_else_does() -> None:
    config = Config(start=datetime(2026, 1, 1, tzinfo=UTC), users=50, merchants=30, seed=4)
    seconds = iter(range(NOW, NOW + 10**9, 1_000))
    now = NOW

    def clock() -> int:
        nonlocal now
        now = next(seconds)
        return now

    traffic = Live(config, clock, labels_after_ms=60_000)
    sent: list[Transaction | Bad] = []
    told: list[tuple[int, Label]] = []
    good = islice(traffic, 6_000)
    for message in traffic.with_labels(mix(good, 0.01, seed=1, clock=lambda: NOW, max_age_days=7)):
        if isinstance(message, Label):
            told.append((now, message))
        else:
            sent.append(message)
    truth = generate(replace(config, days=60)).truth["is_fraud"].to_list()
    frauds = [t for t in sent if isinstance(t, Transaction) and truth[int(t.transaction_id.split("-")[1]) % len(truth)]]
    assert len(frauds) > 20
    assert [label.transaction_id for _, label in told] == [t.transaction_id for t in frauds[: len(told)]]
    assert len(frauds) - len(told) < 5  # the last ones' time hadn't come
    check = Check(Label)
    for at, label in told:
        check(label)
        assert label.is_fraud
        assert codec.parse_time(label.labelled_at) == at
        assert 60_000 <= at - codec.parse_time(label.timestamp) < 70_000
    assert not list(islice(Live(config, clock).with_labels([]), 1))


@pytest.mark.server
def test_labels_between_transactions_go_to_their_own_topic_and_take_no_turn(
    kafka: servers.Server, stack_settings: Settings
) -> None:
    before = {name: bus.end_offsets(stack_settings.kafka_bootstrap, name) for name in (bus.TRANSACTIONS, bus.LABELS)}

    def messages() -> Iterator[Transaction | Label]:
        for each in stream("k", 100):
            yield each
            for verdict in (True, False, True):
                yield Label(
                    each.transaction_id, each.user_id, "m1", each.timestamp, verdict, each.timestamp, "simulator"
                )

    done = publish(stack_settings, messages(), rate=100)
    assert (done.valid, done.bad, done.labels, done.total) == (100, 0, 300, 100)
    assert 0.8 < done.seconds < 2.5  # not four seconds
    assert sum(last - first + 1 for first, last in done.offsets.values()) == 100
    assert len(consumed(stack_settings, bus.TRANSACTIONS, "k", before[bus.TRANSACTIONS])) == 100
    told = [codec.decode_label(r.value, r.key) for r in consumed(stack_settings, bus.LABELS, "k", before[bus.LABELS])]
    assert all(isinstance(label, Label) for label in told)
    assert len(told) == 300


@pytest.mark.server
def test_all_arrive_keyed_by_user_in_order(kafka: servers.Server, stack_settings: Settings) -> None:
    before = bus.end_offsets(stack_settings.kafka_bootstrap, bus.TRANSACTIONS)
    messages = list(mix(stream("a", 3_000), 0.01, seed=5, clock=lambda: NOW, max_age_days=7))
    done = publish(stack_settings, messages)
    bad = [m.expected for m in messages if isinstance(m, Bad)]
    assert (done.valid, done.bad, done.total) == (3_000, len(bad), 3_000 + len(bad))
    assert done.expected == {reason: bad.count(reason) for reason in set(bad)}
    after = bus.end_offsets(stack_settings.kafka_bootstrap, bus.TRANSACTIONS)
    assert done.offsets == {part: (before[part], after[part] - 1) for part in after}
    records = consumed(stack_settings, bus.TRANSACTIONS, "", before)
    good = {codec.encode(m) for m in messages if isinstance(m, Transaction)}
    for user in {f"u{i}" for i in range(7)}:
        mine = [r for r in records if r.key == user.encode() and r.value in good]
        assert {r.partition for r in mine} == {bus.partition_of(user, len(after))}
        first = list(dict.fromkeys(r.value for r in mine))  # repeats left out
        assert first == [codec.encode(m) for m in messages if isinstance(m, Transaction) and m.user_id == user]


@pytest.mark.server
def test_a_rate_is_kept_and_a_stop_is_answered(kafka: servers.Server, stack_settings: Settings) -> None:
    stop = threading.Event()
    seen: list[Published] = []

    def progress(so_far: Published) -> None:
        seen.append(so_far)
        if so_far.seconds > 1.5:
            stop.set()

    done = publish(stack_settings, stream("b"), rate=400, stop=stop, progress=progress)
    assert done.interrupted
    assert done.valid == pytest.approx(400 * done.seconds, rel=0.15)
    assert sum(last - first + 1 for first, last in done.offsets.values()) == done.valid
    assert 0 < seen[0].valid < done.valid


@pytest.mark.server
def test_a_time_limit_ends_it(kafka: servers.Server, stack_settings: Settings) -> None:
    done = publish(stack_settings, stream("c"), rate=200, seconds=0.5)
    assert not done.interrupted
    assert done.valid == pytest.approx(100, abs=40)


@pytest.mark.server
def test_a_broken_message_ends_it_after_those_before(kafka: servers.Server, stack_settings: Settings) -> None:
    before = bus.end_offsets(stack_settings.kafka_bootstrap, bus.TRANSACTIONS)
    messages = [*stream("d", 50), msgspec.structs.replace(next(stream("d")), amount=-1.0)]
    with pytest.raises(DataError, match="amount breaks its rule"):
        publish(stack_settings, messages)
    assert len(consumed(stack_settings, bus.TRANSACTIONS, "", before)) == 50
    assert publish(stack_settings, messages, validate=False).valid == 51


@pytest.mark.server
def test_a_missing_topic_and_two_paces_are_refused(kafka: servers.Server, stack_settings: Settings) -> None:
    with pytest.raises(StateError, match="no topic 'nowhere'"):
        publish(stack_settings, stream("e", 1), topic="nowhere")
    with pytest.raises(ConfigError, match="exclude each other"):
        publish(stack_settings, stream("e", 1), rate=1, speed=1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("dropped_sockets")
@pytest.mark.server
def test_kafka_away_is_waited_for_within_a_bound(kafka: servers.Server, stack_settings: Settings) -> None:
    before = bus.end_offsets(stack_settings.kafka_bootstrap, bus.TRANSACTIONS)
    started, acked = threading.Barrier(3, timeout=30), [0]

    def patient(so_far: Published) -> None:
        if so_far.seconds < 1:
            started.wait()

    def hasty(so_far: Published) -> None:
        patient(so_far)
        acked[0] = so_far.valid

    with ThreadPoolExecutor() as pool:
        back = pool.submit(publish, stack_settings, stream("f", 2_000), rate=500, progress=patient)
        away = pool.submit(publish, stack_settings, stream("g"), rate=500, progress=hasty, patience_s=2.0)
        started.wait()
        kafka.kill()
        error = away.exception(40)
        kafka.start()
        done = back.result(60)
    found = consumed(stack_settings, bus.TRANSACTIONS, "", before)
    ids = [json.loads(r.value)["transaction_id"] for r in found]
    assert done.valid == 2_000
    assert sorted(i for i in ids if i[0] == "f") == sorted(f"f{i}" for i in range(2_000))
    assert isinstance(error, ServiceError)
    said = re.search(r"acknowledged ([\d,]+) messages on transactions; of [\d,]+ more it isn't known", str(error))
    assert said is not None, error
    assert 0 < acked[0] <= int(said[1].replace(",", "")) <= sum(i[0] == "g" for i in ids)


@pytest.mark.server
def test_the_command_reports_after_ctrl_c(kafka: servers.Server, stack_settings: Settings) -> None:
    before = bus.end_offsets(stack_settings.kafka_bootstrap, bus.TRANSACTIONS)
    command = [sys.executable, "-m", "fraud.cli", "produce", "--rate", "300", "--users", "50", "--bad", "0.1", "--json"]
    process = subprocess.Popen(
        command, env=servers.environment(stack_settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:

        def sending() -> bool:
            assert process.poll() is None, process.communicate()
            ends = bus.end_offsets(stack_settings.kafka_bootstrap, bus.TRANSACTIONS)
            return sum(ends.values()) > sum(before.values()) + 100

        servers.wait_for("a hundred transactions", sending, 60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, err
    result = json.loads(out)
    after = bus.end_offsets(stack_settings.kafka_bootstrap, bus.TRANSACTIONS)
    assert result["interrupted"]
    assert result["valid"] + result["bad"] == sum(after.values()) - sum(before.values())
    assert result["bad"] == sum(result["expected"].values()) > 0
