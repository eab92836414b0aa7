"""Predictions are shown, piped and remembered; the documented consumer writes each decision once."""

import gc
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from fraud import bus, codec
from fraud.cli.consume import _decisions, _line, _printable
from fraud.consuming import RATE_S, Answer, Tally
from fraud.errors import ConfigError
from fraud.rejections import Refused
from fraud.schema import Prediction, Source, Transaction
from fraud.settings import Settings
from producer.publisher import publish
from tests import servers

NOW = codec.parse_time("2026-03-01T12:00:00Z")
DECISIONS = ("APPROVE", "REVIEW", "BLOCK")
PAGE = servers.REPOSITORY / "docs" / "consuming.md"


def transaction(n: int) -> Transaction:
    return Transaction(f"t{n}", f"u{n % 5}", f"m{n}", codec.format_time(NOW + n), 10.0 + n, "EUR")


def prediction(n: int, source: Source) -> Prediction:
    t = transaction(n)
    return Prediction(
        t.transaction_id,
        t.user_id,
        t.merchant_id,
        t.timestamp,
        t.amount,
        None,
        None,
        (n % 10) / 10,
        int(n % 3 > 0),  # type: ignore[arg-type]
        DECISIONS[n % 3],  # type: ignore[arg-type]
        0.25,
        "fraud-detector",
        "7",
        "1",
        {"amount": t.amount, "rolling_avg_7d": None},
        None,
        source,
        codec.format_time(NOW + n),
    )


def answer(n: int) -> Answer:
    raw = codec.encode(prediction(n, Source("transactions", 0, n)))
    return Answer(json.loads(raw), raw, 0, n, NOW + n)


def test_a_tally_counts_keeps_the_newest_and_knows_the_rate() -> None:
    tally = Tally("decision", keep=3)
    assert tally.rate(0.0) == 0.0
    assert tally.percentile_ms(50) is None
    for second in range(20):
        tally.add([answer(second * 6 + i) for i in range(6)], float(second))
    assert tally.counts == {"APPROVE": 40, "REVIEW": 40, "BLOCK": 40}
    assert [each.offset for each in tally.newest] == [119, 118, 117]
    assert tally.rate(19.0) == pytest.approx(6, rel=0.2)
    assert tally.rate(19.0 + RATE_S + 1) == 0.0
    tally.latencies_ms.extend(range(101))
    assert (tally.percentile_ms(50), tally.percentile_ms(99)) == (50, 99)


def test_a_line_says_what_was_decided() -> None:
    assert _line(answer(4)) == "REVIEW  12:00:00.004  0.4000  14.00  -  u4  m4  v7  0:4"


def test_what_a_newer_job_writes_is_shown() -> None:
    newer = answer(1).message | {"decision": "CHALLENGE", "reviewer": "somebody"}
    assert _line(Answer(newer, b"", 0, 1, NOW)).startswith("CHALLENGE  ")


def test_a_message_cant_command_the_terminal() -> None:
    assert _printable("é\x1b[31m\n") == r"é\x1b[31m\n"


def test_decisions_are_chosen_by_name() -> None:
    assert _decisions("review, BLOCK") == {"REVIEW", "BLOCK"}
    assert _decisions(None) is None
    with pytest.raises(ConfigError, match="--decision DENY: there are APPROVE, REVIEW, BLOCK"):
        _decisions("deny,BLOCK")


@pytest.fixture(scope="module")
def values(kafka: servers.Server, stack_settings: Settings) -> list[bytes]:
    """Thirty predictions of thirty transactions, as the score job would publish them; returns their bytes."""
    servers.fresh_topics(stack_settings)
    publish(stack_settings, [transaction(n) for n in range(30)])
    made = []
    offsets: dict[int, int] = {}
    for n in range(30):
        part = bus.partition_of(f"u{n % 5}", stack_settings.topic_partitions)
        offset = offsets[part] = offsets.get(part, -1) + 1
        made.append(codec.encode(prediction(n, Source(bus.TRANSACTIONS, part, offset))))
    send(stack_settings, bus.PREDICTIONS, made)
    return made


def send(settings: Settings, topic: str, values: list[bytes], key: bytes | None = None) -> None:
    client = bus.producer(settings.kafka_bootstrap)
    for value in values:
        client.send(topic, value=value, key=key or json.loads(value)["user_id"].encode()).get(20)
    client.close()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fraud.cli", "consume", *arguments]


def run(settings: Settings, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(command(*arguments), env=servers.environment(settings), capture_output=True, timeout=60)


@pytest.mark.server
def test_a_pipe_gets_the_messages_and_the_group_remembers(values: list[bytes], stack_settings: Settings) -> None:
    first = run(stack_settings, "--json", "--group", "fraud-test", "--limit", "20")
    assert first.returncode == 0, first.stderr
    assert first.stderr == b""
    rest = run(stack_settings, "--json", "--group", "fraud-test", "--limit", "10")
    assert sorted(first.stdout.splitlines() + rest.stdout.splitlines()) == sorted(values)
    chosen = ("--from", "beginning", "--decision", "REVIEW,BLOCK", "--limit", "20")
    lines = run(stack_settings, "--group", "fraud-test", *chosen).stdout.decode().splitlines()
    assert [line.split()[0] for line in lines].count("REVIEW") == 10
    assert [line.split()[0] for line in lines].count("BLOCK") == 10


@pytest.mark.server
def test_a_reader_that_goes_and_ctrl_c_end_it_quietly(values: list[bytes], stack_settings: Settings) -> None:
    rejection = codec.reject(
        Refused("schema", "amount", "it isn't \x1b[1m"),
        topic=bus.TRANSACTIONS,
        partition=0,
        offset=3,
        key=b"u1",
        raw=b"{}",
        rejected_at=codec.format_time(NOW),
    )
    send(stack_settings, bus.DLQ, [rejection[1]], rejection[0])
    process = subprocess.Popen(
        command("--topic", "rejections", "--group", "fraud-r"),
        env=servers.environment(stack_settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline().decode()
        assert line == "schema  12:00:00.000  amount  2  0:3  it isn't \\x1b[1m\n"
        process.stdout.close()
        send(stack_settings, bus.DLQ, [rejection[1]], rejection[0])  # nobody reads it
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.stderr.close()
    finally:
        process.kill()


@pytest.mark.server
def test_a_terminal_gets_a_table_with_latencies(values: list[bytes], stack_settings: Settings) -> None:
    ours, theirs = pty.openpty()
    environment = servers.environment(stack_settings) | {"COLUMNS": "150", "LINES": "40", "TERM": "xterm"}
    process = subprocess.Popen(
        command("--from", "beginning", "--group", "fraud-tty"), env=environment, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen = b""
    try:
        while b"30 predictions" not in seen or b"latency p50" not in seen:
            assert process.poll() is None, seen
            seen += os.read(ours, 65_536)
        process.send_signal(signal.SIGINT)
        with suppress(OSError):  # EIO: its end is closed
            while some := os.read(ours, 65_536):
                seen += some
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert "APPROVE 10" in text
    assert "m29" in text


@pytest.fixture
def page(stack_settings: Settings, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """The page's consumer, running in an empty folder."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"KAFKA_BOOTSTRAP": stack_settings.kafka_bootstrap},
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()
    gc.collect()


@pytest.mark.server
def test_the_pages_consumer_writes_each_decision_once(
    values: list[bytes], stack_settings: Settings, page: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    send(stack_settings, bus.PREDICTIONS, values[10:])  # published again, as after a crash
    later = codec.encode(prediction(31, Source(bus.TRANSACTIONS, 0, 999)))
    send(stack_settings, bus.PREDICTIONS, [later[:-1] + b',"new_field":1}'])
    assert page.stdout is not None
    acted = [page.stdout.readline().split() for _ in range(21)]
    assert sorted(acted) == sorted(
        [p.decision, p.user_id, p.transaction_id]
        for p in (msgspec.json.decode(value, type=Prediction) for value in [*values, later])
        if p.decision != "APPROVE"
    )

    def rows() -> list[tuple[str, int, int, str]]:
        database = sqlite3.connect(tmp_path / "decisions.db")
        found = database.execute('SELECT topic, partition, "offset", transaction_id FROM decisions').fetchall()
        database.close()
        return found

    servers.wait_for("31 decisions are written", lambda: len(rows()) >= 31, 20)
    written = rows()
    assert len(written) == len({row[:3] for row in written}) == 31
