"""Recovery: the arithmetic on answers made by hand, and real jobs that are really killed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fraud import bus
from fraud.bench.recovery import Answer, Kill, Plan, _recovered, account
from tests import servers


def answer(source: int, at: int, offset: int, digest: bytes = b"same", topic: str = bus.PREDICTIONS) -> Answer:
    return Answer((0, source), at, topic, 0, offset, digest)


def kill(at: int, predictions: int, rejections: int = 0) -> Kill:
    return Kill(at, 0.0, 0, {bus.PREDICTIONS: {0: predictions}, bus.DLQ: {0: rejections}})


def test_a_repeat_of_what_was_answered_is_no_news() -> None:
    answers = [answer(1, 900, 0), answer(2, 950, 1), answer(2, 5_000, 2), answer(3, 7_000, 3), answer(4, 7_100, 4)]
    assert _recovered(kill(1_000, predictions=2), answers) == 6.0


def test_what_was_rejected_before_is_no_news_and_a_rejection_is_no_prediction() -> None:
    answers = [
        answer(1, 900, 0, topic=bus.DLQ),
        answer(2, 3_000, 1, topic=bus.DLQ),
        answer(1, 4_000, 0),
        answer(3, 6_000, 1),
    ]
    assert _recovered(kill(1_000, predictions=0, rejections=1), answers) == 5.0


def test_what_a_dying_job_had_still_sent_is_no_news() -> None:
    assert _recovered(kill(1_000, predictions=1), [answer(1, 1_050, 0), answer(2, 9_000, 1)]) == 8.0


def test_lost_repeated_and_different_answers_are_counted() -> None:
    answers = [answer(1, 0, 0), answer(1, 0, 1), answer(2, 0, 2), answer(2, 0, 3, b"other")]
    assert account(answers, 5) == {"lost": 3, "repeats": 2, "different": 1}


def test_a_plan_counts_what_it_prepares() -> None:
    assert Plan(kills=2, rate=100, cycle=10.0).messages == 3_000


def measured(home: Path, *options: str) -> dict[str, Any]:
    """Return what the command measured; nothing of its jobs may live on."""
    fixed = ["--rate", "100", "--users", "2000", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "fraud.cli", "bench", "recovery", *fixed, *options],
        env=servers.environment(servers.settings(home)),
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["lost"] == 0
    assert told["different"] == 0
    assert [run["survivors"] for run in told["runs"]] == [0] * told["kills"]
    assert all(run["seconds"] > 0.5 for run in told["runs"])  # a JVM starts in no less
    assert told["seconds"]["range"][0] <= told["seconds"]["median"] <= told["seconds"]["range"][1]
    assert told["events"] > 500
    return told


@pytest.mark.server
@pytest.mark.timeout(600)
def test_the_jvm_does_not_outlive_a_killed_driver(tmp_path: Path) -> None:
    told = measured(tmp_path / "home", "--kills", "1", "--settle", "3", "--only-driver")
    assert told["only_driver"]
    assert told["runs"][0]["gone"] < 30
