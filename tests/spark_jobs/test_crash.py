"""Whoever is killed, nothing is lost and nothing is decided twice: kill -9 at seeded moments, under load.

What the job publishes is compared with a job that nothing happened to, and with the offline rules.
"""

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import pytest

from fraud import backfill, bus, parity
from fraud.settings import Settings
from fraud.store import open_store
from fraud.store.base import Store
from tests import servers
from tests.spark_jobs import jobs, load, uninterrupted

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]  # a quiet machine needs 150 s

SEED = 20261125
PER_SECOND = 500
RECOVERY_SECONDS = 180.0

Who = Literal["driver", "worker", "daemon", "kafka"]
Step = Literal["committed", "yielded"]
# Whom to kill, and at which step of a task: one that is held there (fraud.decision.Terms), or wherever it is.
KILLS: list[tuple[Who, Step | None]] = [
    ("driver", "committed"),
    ("driver", "yielded"),
    ("driver", None),
    ("driver", None),
    ("worker", "committed"),
    ("worker", None),
    ("daemon", None),
    ("kafka", "committed"),
    ("kafka", None),
]


@dataclass
class Kill:
    """One kill: whom, when, and how long it took until something new was answered."""

    who: Who
    step: Step | None
    calm: float  # seconds of undisturbed work beforehand
    at: int = 0  # ms since the epoch
    again: int = 0  # ms since the epoch: the job or the broker was up again

    def __str__(self) -> str:
        where = "at any moment" if self.step is None else f"after a task's step '{self.step}'"
        return f"{self.who} {where}, {self.calm:.2f} s after the last recovery"


@dataclass(frozen=True)
class Outcome:
    """What is left when everything was killed, recovered and answered."""

    settings: Settings
    past: backfill.Past
    sent: int
    kills: list[Kill]
    answers: jobs.Answers
    state: uninterrupted.State
    expected: uninterrupted.Uninterrupted


def plan() -> list[Kill]:
    """Return the kills in an order and at moments that only the seed decides."""
    rng = random.Random(SEED)
    chosen = [Kill(who, step, rng.uniform(0.3, 2.0)) for who, step in KILLS]
    rng.shuffle(chosen)
    return chosen


@pytest.fixture(scope="module")
def outcome(
    kafka: servers.Server, stack_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outcome]:
    """Kill everything that the plan names, one after the other, under load; then let the job end its work."""
    servers.fresh_topics(stack_settings)
    settings = servers.settings(tmp_path_factory.mktemp("crash"), kafka_bootstrap=stack_settings.kafka_bootstrap)
    jobs.publish_model(settings)
    store = open_store(settings)
    past = load.merchants_past(now())
    backfill.load(past, store, partitions=settings.topic_partitions, clock=now)
    kills = plan()
    with jobs.Job(settings) as job:
        job.start().wait_until_scoring()
        with load.Load(settings, SEED, PER_SECOND) as sending:
            recovered(job, store, positions(store))
            for number, kill in enumerate(kills, 1):
                time.sleep(kill.calm)  # the seeded moment, not a wait for anything
                reach(kill.step, kill.who, job)
                print(f"kill {number} of {len(kills)} (seed {SEED}): {kill}; positions {positions(store)}", flush=True)
                carry_out(kill, job, kafka)
                recovered(job, store, positions(store))
        answers = jobs.answers(settings, seconds=300)
        assert job.stop() == 0, job.words()
    state = uninterrupted.state_of(store, settings.topic_partitions)
    store.close()
    expected = uninterrupted.run(settings, past)
    report(kills, answers)
    yield Outcome(settings, past, sending.sent, kills, answers, state, expected)


def now() -> int:
    return time.time_ns() // 1_000_000


def positions(store: Store) -> dict[int, int]:
    return {key.partition: at for key, at in store.histories.positions().items()}


def reach(step: Step | None, who: Who, job: jobs.Job) -> None:
    """Wait until a task is at the step: it holds there, or, if it is to be killed itself, is dead."""
    if step is not None:
        job.fault(step, "kill" if who == "worker" else "hold")
        reached = job.fault_file.with_suffix(".met" if who == "worker" else ".held")
        servers.wait_for(f"a task reaches {step!r}", reached.exists, RECOVERY_SECONDS, every=0.005)


def carry_out(kill: Kill, job: jobs.Job, kafka: servers.Server) -> None:
    """Kill whom it says; start what a supervisor would start again."""
    kill.at = now()
    if kill.who == "kafka":
        kafka.kill()
        job.release()
        kafka.start()
    elif kill.who == "driver":
        job.kill("driver")
        job.start()  # beside what is left of the last one
        job.wait_until_scoring()
        job.release()
    elif kill.step is None:
        job.kill(kill.who)
    job.fault_file.with_suffix(".met").unlink(missing_ok=True)
    kill.again = now()


def recovered(job: jobs.Job, store: Store, before: dict[int, int]) -> None:
    """Wait until every partition is beyond where it was, by a job that lives."""

    def beyond() -> bool:
        assert job.returncode is None, f"the job ended ({job.returncode}):\n{job.words()}"
        reached = positions(store)
        return set(reached) == {0, 1} and all(at > before.get(partition, 0) for partition, at in reached.items())

    servers.wait_for(f"every partition is scored beyond {before}", beyond, RECOVERY_SECONDS, every=0.02)


def report(kills: list[Kill], answers: jobs.Answers) -> None:
    """Print how long each recovery took: until something was answered that had no answer before."""
    firsts = sorted(copies[0].at for copies in answers.by_source.values())
    for kill in kills:
        first = next((at for at in firsts if at >= kill.again), None)
        took = "nothing new" if first is None else f"{(first - kill.at) / 1_000:.1f} s"
        print(f"{kill.who} ({kill.step or 'any'}): first new answer after {took}")
    print(f"{len(answers.by_source)} offsets, {answers.repeats} repeats", flush=True)


def test_every_offset_has_its_answer(outcome: Outcome) -> None:
    ends = bus.end_offsets(outcome.settings.kafka_bootstrap, bus.TRANSACTIONS)
    assert len(outcome.answers.by_source) == sum(ends.values()) == outcome.sent
    assert outcome.answers.by_source.keys() == outcome.expected.said.keys()


def test_something_was_answered_twice(outcome: Outcome) -> None:
    """Else no kill hit a batch between its commit and its checkpoint, and nothing here is proved."""
    assert outcome.answers.repeats > 0


def test_repeats_are_the_same_bytes(outcome: Outcome) -> None:
    assert outcome.answers.differing() == []


def test_everything_said_equals_an_uninterrupted_run(outcome: Outcome) -> None:
    """Predictions with all features, exactly; rejections with reason, field and original."""
    wrong = uninterrupted.differing(outcome.answers.by_source, outcome.expected)
    assert not wrong, f"{len(wrong)} differ, the first: {wrong[0]}"


def test_everything_said_equals_the_offline_rules(outcome: Outcome) -> None:
    result = parity.check(outcome.settings, outcome.past)
    assert result.holds, (result.report(), result.examples[:3])
    assert (result.compared, result.stale) == (len(outcome.answers.predictions), 0)


def test_the_state_equals_an_uninterrupted_runs(outcome: Outcome) -> None:
    assert outcome.state.positions == bus.end_offsets(outcome.settings.kafka_bootstrap, bus.TRANSACTIONS)
    assert outcome.state.histories.keys() == outcome.expected.state.histories.keys()
    other = [who for who, raw in outcome.state.histories.items() if raw != outcome.expected.state.histories[who]]
    assert other == []


def test_the_traffic_was_mixed(outcome: Outcome) -> None:
    """Every kind of message was there often enough for the comparison to mean something."""
    reasons = Counter(copies[0].json()["reason"] for copies in outcome.answers.rejections.values())
    wanted = {"duplicate", "conflicting_duplicate", "not_json", "schema", "key_mismatch", "too_old", "future_timestamp"}
    assert set(reasons) == wanted
    assert min(reasons.values()) >= 20, reasons
    some = islice(outcome.answers.predictions.values(), 10_000)
    said = [copies[0].json()["features"] for copies in some]
    for name in said[0]:
        assert sum(features[name] is not None for features in said) >= 100, name
