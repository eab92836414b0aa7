"""Recovery: the arithmetic on answers made by hand, and real jobs that are really killed."""

from pathlib import Path

import pytest

from fraud import bus
from fraud.bench.recovery import Answer, Kill, Plan, _recovered, account
from tests.bench.command import measured


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


@pytest.mark.server
@pytest.mark.timeout(600)
def test_a_killed_driver_loses_nothing_and_its_jvm_does_not_outlive_it(tmp_path: Path) -> None:
    options = ("--rate", "100", "--users", "2000", "--kills", "1", "--settle", "3", "--only-driver")
    told = measured(tmp_path / "home", "recovery", *options)
    assert told["only_driver"]
    assert (told["lost"], told["different"]) == (0, 0)
    assert told["events"] > 500
    (run,) = told["runs"]
    assert run["survivors"] == 0
    assert run["gone"] < 30
    assert run["seconds"] > 0.5  # a JVM starts in no less
    assert told["seconds"] == {"median": run["seconds"], "range": [run["seconds"]] * 2}
