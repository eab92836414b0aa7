"""What `doctor` says about the archive job and about retraining; no server is needed for it."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from fraud.settings import Settings
from fraud.stack import doctor_loop as loop
from fraud.store import open_store

NOW = 1_000_000_000_000
ENDS = {"transactions": {0: 10, 1: 20}, "transaction_labels": {0: 0, 1: 3}}


def line(ends: dict[str, dict[str, int]], at: int = NOW) -> dict[str, Any]:
    return {"at": at, "ends": ends, "batch": 1}


@pytest.mark.parametrize(
    ("last", "level", "words"),
    [
        (None, "warning", "30 of transactions, 3 of transaction_labels; it has written nothing yet"),
        (line({"transactions": {"0": 10, "1": 20}, "transaction_labels": {"1": 3}}, 0), "ok", "holds everything"),
        (
            line({"transactions": {"0": 8, "1": 20}, "transaction_labels": {"1": 3}}),
            "ok",
            "archived: 2 of transactions",
        ),
        (
            line({"transactions": {"0": 10, "1": 20}}, NOW - 200_000),
            "warning",
            "3 of transaction_labels; its last batch was 200 s ago. Its log archive.log says why",
        ),
    ],
)
def test_the_lake_is_compared_with_the_topics(last: dict[str, Any] | None, level: str, words: str) -> None:
    found = loop.lag(last, ENDS, NOW, "archive.log")
    assert (found.topic, found.level) == ("archive", level)
    assert words in found.message


def test_the_newest_whole_line_of_progress_counts(tmp_path: Path) -> None:
    settings = Settings.load({}, home=tmp_path)
    assert loop.newest_progress(settings) is None
    settings.logs.mkdir()
    written = "".join(json.dumps({"batch": batch}) + "\n" for batch in (1, 2))
    (settings.logs / loop.PROGRESS).write_text(written + '{"batch": 3, "en')
    assert loop.newest_progress(settings) == {"batch": 2}


def test_a_lease_without_a_living_holder_is_no_archive_job(tmp_path: Path) -> None:
    # Nobody listens at the broker's address, so that only the lease is looked at.
    settings = Settings.load({}, home=tmp_path, kafka_bootstrap="127.0.0.1:1")
    assert [each.level for each in loop.archive(settings, NOW)] == ["problem"]
    with_lease = open_store(settings)
    host = socket.gethostname()
    with_lease.histories.acquire("archive", "me", host=host, pid=os.getpid(), now=NOW, ttl=10_000)
    with_lease.close()
    assert [each.level for each in loop.archive(settings, NOW)] == ["ok"]
    later = list(loop.archive(settings, NOW + 20_000))
    assert [each.level for each in later] == ["problem"]
    assert "`fraud-detect up` starts it" in later[0].message


def test_airflow_that_nobody_started_is_the_ports_finding(tmp_path: Path) -> None:
    settings = Settings.load({}, home=tmp_path, airflow_uri="http://127.0.0.1:1")
    assert list(loop.airflow(settings)) == []
