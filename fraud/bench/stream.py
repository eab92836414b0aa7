"""`bench stream`: how fast the score job drains a backlog, and how late its predictions are at a steady rate.

Broker, generator and job share the machine. The drain runs the profile `throughput`: a job starts on a topic
that is filled already; the first events warm its JVM up and don't count. The paced runs use the profile
`latency`: a new job is warmed up at the highest rate, then each rate is held, its first seconds not counted.
CPU and memory are the job's whole process tree (driver, JVM, Python workers), without broker and generator.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from fraud import bus
from fraud.bench.beside import Beside
from fraud.bench.job import Job
from fraud.bench.latency import Latencies, latencies
from fraud.bench.load import Message, fill, pace
from fraud.bench.processes import PeakMemory, load, machine, tree, usage
from fraud.bench.rig import Rig
from fraud.errors import ServiceError
from spark_jobs import archive_wait

WARM_SHARE = 1.0  # of a drain's events, as many before its clock starts: a JVM compiles for its first half a minute
WARM_SECONDS = 30  # at the highest rate, before the paced runs: a JVM compiles what it has seen often
SETTLE_SECONDS = 5  # of a paced run, not counted
GIVE_UP_SECONDS = 300
POLL_SECONDS = 0.1
HELD_MS = 200  # a rate is held where its p99 is at most this
MEMORY_SECONDS = 2.0  # between two looks, each of which costs milliseconds

Say = Callable[[str], None]
Offsets = Mapping[int, int]


@dataclass(frozen=True)
class Plan:
    """What to measure: `events` drained and each of `rates` (1/s) held for `seconds`, all of it `runs` times."""

    events: int = 300_000
    rates: tuple[int, ...] = (1_000, 2_000, 5_000, 10_000)
    seconds: int = 60
    runs: int = 1

    @property
    def warm_events(self) -> int:
        """How many events of a backlog come before the measured ones."""
        return round(self.events * WARM_SHARE)

    @property
    def messages(self) -> int:
        """How many messages one run needs."""
        warm = self.warm_events + WARM_SECONDS * max(self.rates, default=0)
        return warm + self.events + sum(rate * (self.seconds + SETTLE_SECONDS) for rate in self.rates)


def run(plan: Plan, rig: Rig, say: Say) -> dict[str, Any]:
    """Measure and return medians with ranges, as contracts.md says (`bench stream --json`)."""
    before = load()
    drains, paced = [], []
    for number in range(1, plan.runs + 1):
        rig.reset()
        messages = iter(rig.messages(plan.messages))
        with rig.archive() as archive:
            drains.append(drain(plan, rig, messages, rig.job("throughput"), archive))
            say(f"run {number}: drained {drains[-1]['events_per_s']:,.0f} events/s")
            paced.append(hold(plan, rig, messages, say, archive))
    held = {rate: summary([each[rate] for each in paced]) for rate in plan.rates}
    return {
        "machine": machine(),
        "load": {"before": before, "after": load()},
        "runs": plan.runs,
        "drain": summary(drains),
        "paced": {str(rate): figures for rate, figures in held.items()},
        "held": max((rate for rate, figures in held.items() if figures["p99"] <= HELD_MS), default=None),
    }


def drain(
    plan: Plan,
    rig: Rig,
    messages: Iterator[Message],
    starting: AbstractContextManager[Job],
    archive: Job | None = None,
) -> dict[str, float]:
    """Fill the topic, start a job on it and time the drain after the first, warming ones.

    `archive`: the archive job that runs beside, whose processor time is counted apart.

    Raises:
        ServiceError: the job ends or stands still, or is done before its clock starts.
    """
    fill(rig.bootstrap, _take(messages, plan.warm_events + plan.events))
    with starting as job:
        target = _answered(rig) + plan.warm_events + plan.events
        begin = _wait(rig, job, target - plan.events)
        cpu, beside = _cpu(job), _cpu(archive)
        memory = PeakMemory(lambda: [job.pid], MEMORY_SECONDS)
        end = _wait(rig, job, target)
        seconds, events = end.at - begin.at, end.answered - begin.answered
        spent, archived = _cpu(job) - cpu, _cpu(archive) - beside
        peak = memory.close()
    if events < plan.events / 10:
        raise ServiceError(f"{job.name} was too fast to be timed over {plan.events:,} events; measure more of them")
    return {
        "events_per_s": events / seconds,
        "cpu_s_per_million": spent / events * 1e6,
        "rss_mb": peak,
        **({} if archive is None else {"archive_cpu_cores": archived / seconds}),
    }


def hold(
    plan: Plan, rig: Rig, messages: Iterator[Message], say: Say, archive: Job | None = None
) -> dict[int, dict[str, float]]:
    """Hold each rate in turn against one job; return the latencies in ms.

    `archive`: the archive job that runs beside; it catches up first.
    """
    found: dict[int, dict[str, float]] = {}
    if not plan.rates:
        return found
    with rig.job("latency") as job:
        pace(rig.bootstrap, _take(messages, WARM_SECONDS * max(plan.rates)), max(plan.rates))
        _caught_up(rig, job)
        if archive is not None:
            archive_wait.wait(rig.settings, GIVE_UP_SECONDS, say)
        for rate in plan.rates:
            pace(rig.bootstrap, _take(messages, SETTLE_SECONDS * rate), rate)
            since, answers = rig.ends(bus.TRANSACTIONS), rig.ends(bus.PREDICTIONS)
            age = time.monotonic() - job.started
            cpu, others = _cpu(job), _cpu(archive)
            with Beside(rig) as beside:
                pace(rig.bootstrap, _take(messages, plan.seconds * rate), rate)
            spent, archived = _cpu(job) - cpu, _cpu(archive) - others
            measured = _measured(rig, job, since, answers)
            found[rate] = {
                **measured.percentiles(),
                **beside.figures(),
                "cpu_cores": spent / plan.seconds,
                "jvm_age_s": age,
                **({} if archive is None else {"archive_cpu_cores": archived / plan.seconds}),
            }
            say(f"  {rate:,}/s: p50 {found[rate]['p50']:.0f} ms, p99 {found[rate]['p99']:.0f} ms")
    return found


def _cpu(job: Job | None) -> float:
    """Return the seconds of processor time that a job's processes have taken so far; it must live."""
    if job is None:
        return 0.0
    job.check()
    return usage(tree([job.pid])).cpu_seconds


def _measured(rig: Rig, job: Job, since: Offsets, answers: Offsets) -> Latencies:
    """Return the latencies of everything sent since, once all of it is answered."""
    until, begin = rig.ends(bus.TRANSACTIONS), time.monotonic()
    _caught_up(rig, job)
    while (measured := latencies(rig.bootstrap, since, until, answers)).missing:
        _check(job, begin)  # decided, and on its way to the topic
    return measured


def _caught_up(rig: Rig, job: Job) -> None:
    """Return once everything sent so far is decided."""
    target, begin = sum(rig.ends(bus.TRANSACTIONS).values()), time.monotonic()
    while rig.decided() < target:
        _check(job, begin)
        time.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class _Moment:
    at: float
    answered: int


def _wait(rig: Rig, job: Job, target: int) -> _Moment:
    """Return when so many answers (predictions and rejections) have been published."""
    moved, before = time.monotonic(), -1
    while (answered := _answered(rig)) < target:
        if answered != before:
            moved, before = time.monotonic(), answered
        _check(job, moved)
        time.sleep(POLL_SECONDS)
    return _Moment(time.monotonic(), answered)


def _answered(rig: Rig) -> int:
    return sum(rig.ends(bus.PREDICTIONS).values()) + sum(rig.ends(bus.DLQ).values())


def _check(job: Job, since: float) -> None:
    job.check()
    if time.monotonic() - since > GIVE_UP_SECONDS:
        raise ServiceError(f"waited {GIVE_UP_SECONDS} s for {job.name} in vain; see {job.log}")


def _take(messages: Iterator[Message], count: int) -> Sequence[Message]:
    taken = [message for _, message in zip(range(count), messages, strict=False)]
    if len(taken) < count:
        raise ServiceError(f"the generator has {len(taken)} messages left where {count} are needed")
    return taken


def summary(rows: Iterable[dict[str, float]]) -> dict[str, Any]:
    """Return each figure's median, and its range where there are several runs."""
    given = list(rows)
    result: dict[str, Any] = {}
    for name in given[0]:
        values = [row[name] for row in given if name in row]
        result[name] = round(statistics.median(values), 1)
        if len(values) > 1:
            result[f"{name}_range"] = [round(min(values), 1), round(max(values), 1)]
    return result
