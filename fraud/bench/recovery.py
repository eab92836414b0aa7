"""`bench recovery`: how long nothing is decided after a kill -9, what is lost, and what is told twice.

Under a steady load the job is killed again and again and started anew at once. Per kill: seconds until the first
prediction of a message that nobody had answered before (the broker's time, so the new JVM's start is in it, and
on one machine both clocks are one). Over the whole run: every message's answers, by source offset.
"""

import hashlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from fraud import bus
from fraud.bench.job import Job
from fraud.bench.latency import read, source_of
from fraud.bench.load import pace
from fraud.bench.processes import load, machine
from fraud.bench.rig import Rig
from fraud.errors import ServiceError
from fraud.stack import processes

GIVE_UP_SECONDS = 300
ORPHAN_SECONDS = 60  # children that live longer than their driver by more are counted, and killed
POLL_SECONDS = 0.1
BEHIND_SECONDS = 2.0  # of load: a job that is no further behind has caught up
ANSWERS = (bus.PREDICTIONS, bus.DLQ)

Say = Callable[[str], None]
Source = tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """What to do: `kills` under `rate` messages a second, each `settle` seconds after the job has caught up.

    Attributes:
        only_driver: kill the driver alone; its JVM and workers must end by themselves.
        cycle: seconds of load that are simulated per kill, the start of the first job being one more; what
            is left over when the last has recovered isn't sent.
    """

    kills: int = 5
    rate: int = 1_000
    settle: float = 10.0
    only_driver: bool = False
    cycle: float = 180.0

    @property
    def messages(self) -> int:
        """How many messages are prepared."""
        return round(self.rate * self.cycle * (self.kills + 1))


@dataclass(frozen=True)
class Kill:
    """One kill: when, and what the topics held once nothing of the killed job was left.

    Attributes:
        at: ms since the epoch.
        gone: seconds until its last process had ended.
        survivors: how many hadn't within ORPHAN_SECONDS.
        ends: of each topic with answers, per partition.
    """

    at: int
    gone: float
    survivors: int
    ends: Mapping[str, Mapping[int, int]]


@dataclass(frozen=True)
class Answer:
    """One answer as the broker has it: what it answers, when it came (ms), where, and its bytes' digest."""

    source: Source
    at: int
    topic: str
    partition: int
    offset: int
    digest: bytes


def run(plan: Plan, rig: Rig, say: Say) -> dict[str, Any]:
    """Kill and measure.

    Returns:
        {kills, only_driver, rate, events, runs: [{seconds, gone, survivors}], seconds: {median, range}, lost,
        repeats, different, load, machine}.

    Raises:
        ServiceError: a job ended by itself, didn't catch up in five minutes, or the prepared load ran out.
    """
    busy = load()
    rig.reset()
    kills, answers = _killed(plan, rig, say)
    asked = _sent(rig)
    runs = [
        {"seconds": _recovered(kill, answers), "gone": round(kill.gone, 2), "survivors": kill.survivors}
        for kill in kills
    ]
    seconds = [each["seconds"] for each in runs]
    return {
        "kills": plan.kills,
        "only_driver": plan.only_driver,
        "rate": plan.rate,
        "events": asked,
        "runs": runs,
        "seconds": {"median": round(statistics.median(seconds), 2), "range": [min(seconds), max(seconds)]},
        **account(answers, asked),
        "load": busy,
        "machine": machine(),
    }


def _killed(plan: Plan, rig: Rig, say: Say) -> tuple[list[Kill], list[Answer]]:
    """Run one job after the other under the load, each killed but the last; return all answers."""
    kills: list[Kill] = []
    with _loaded(plan, rig) as sending:
        killed: tuple[int, Sequence[psutil.Process]] | None = None
        while True:
            with rig.job("latency") as job:
                if killed is not None:
                    kills.append(_after(rig, *killed))
                _caught_up(plan, rig, job, sending, 0 if killed is None else rig.decided())
                if len(kills) == plan.kills:
                    sending.stop()
                    return kills, _all_answered(rig, job)
                _settle(plan, job, sending)
                killed = time.time_ns() // 1_000_000, job.kill(only_driver=plan.only_driver)
                say(f"kill {len(kills) + 1} of {plan.kills}")


def account(answers: Sequence[Answer], asked: int) -> dict[str, int]:
    """Count the messages without an answer, the answers beyond the first, and those of them with other bytes.

    >>> one = Answer((0, 7), 1, "fraud_predictions", 0, 0, b"a")
    >>> account([one, one], 2)
    {'lost': 1, 'repeats': 1, 'different': 0}
    """
    first: dict[Source, bytes] = {}
    different = sum(first.setdefault(answer.source, answer.digest) != answer.digest for answer in answers)
    return {"lost": asked - len(first), "repeats": len(answers) - len(first), "different": different}


def _recovered(kill: Kill, answers: Sequence[Answer]) -> float:
    """Return the seconds from the kill to the first prediction of what wasn't answered before."""

    def before(answer: Answer) -> bool:
        return answer.offset < kill.ends[answer.topic].get(answer.partition, 0)

    known = {answer.source for answer in answers if before(answer)}
    new = (
        answer.at
        for answer in answers
        if answer.topic == bus.PREDICTIONS and not before(answer) and answer.source not in known
    )
    return round((min(new) - kill.at) / 1000, 2)


def _after(rig: Rig, at: int, doomed: Sequence[psutil.Process]) -> Kill:
    """Wait for the end of the killed job's processes beside the new one's start; then see what there is.

    A dying producer may be heard once more, so the topics are looked at after its end, which is long before
    a new JVM can answer anything; were it later, the seconds would come out too long, never too short.
    """
    left = processes.wait(doomed, ORPHAN_SECONDS)
    gone = time.time_ns() / 1e9 - at / 1000
    processes.end(left, 0.0)
    return Kill(at, gone, len(left), {topic: rig.ends(topic) for topic in ANSWERS})


class _Load:
    """The load that runs in a thread beside the job."""

    def __init__(self, sent: "Future[int]", end: threading.Event) -> None:
        self._sent, self._end = sent, end

    def check(self) -> None:
        """Raise what sending raised, or ServiceError if the prepared messages are all sent."""
        if self._sent.done():
            raise ServiceError(
                f"all {self._sent.result():,} messages are sent before the last kill; this took too long"
            )

    def stop(self) -> None:
        """Send no more and wait until all that was sent is acknowledged."""
        self._end.set()
        self._sent.result()


@contextmanager
def _loaded(plan: Plan, rig: Rig) -> Iterator[_Load]:
    """Send the plan's rate for as long as the block lasts."""
    messages = rig.messages(plan.messages)
    end = threading.Event()
    with ThreadPoolExecutor(1, "load") as pool:
        try:
            yield _Load(pool.submit(pace, rig.bootstrap, messages, plan.rate, enough=end.is_set), end)
        finally:
            end.set()


def _caught_up(plan: Plan, rig: Rig, job: Job, sending: _Load, before: int) -> None:
    """Return once the job has decided more than was decided `before`, and is at most BEHIND_SECONDS of load behind."""
    begin = time.monotonic()
    while (decided := rig.decided()) <= before or _sent(rig) - decided > BEHIND_SECONDS * plan.rate:
        job.check()
        sending.check()
        if time.monotonic() - begin > GIVE_UP_SECONDS:
            raise ServiceError(f"the job didn't catch up within {GIVE_UP_SECONDS} s; see {job.log}")
        time.sleep(POLL_SECONDS)


def _sent(rig: Rig) -> int:
    """Return how many messages the topic holds; it was made anew."""
    return sum(rig.ends(bus.TRANSACTIONS).values())


def _settle(plan: Plan, job: Job, sending: _Load) -> None:
    """Let the job run on for the plan's seconds."""
    begin = time.monotonic()
    while time.monotonic() - begin < plan.settle:
        job.check()
        sending.check()
        time.sleep(POLL_SECONDS)


def _all_answered(rig: Rig, job: Job) -> list[Answer]:
    """Return every answer once each message has one, or what there is when that takes too long."""
    asked, since = _sent(rig), time.monotonic()
    while True:
        waited = time.monotonic() - since
        answers = list(_answers(rig))
        if account(answers, asked)["lost"] == 0 or waited > ORPHAN_SECONDS:
            return answers
        job.check()
        time.sleep(1.0)


def _answers(rig: Rig) -> Iterator[Answer]:
    for topic in ANSWERS:
        for message in read(rig.bootstrap, topic, {}, rig.ends(topic)):
            value = message.value() or b""
            digest = hashlib.blake2b(value, digest_size=16).digest()
            partition, offset = message.partition() or 0, message.offset() or 0
            yield Answer(source_of(value), message.timestamp()[1], topic, partition, offset, digest)
