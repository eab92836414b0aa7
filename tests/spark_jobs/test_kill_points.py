"""The four places at which a death could lose an answer or decide twice, each met exactly; a model swap in each.

A task is held between its decision and the commit, between the commit and the output, inside the output; the
last place is between the output and Spark's checkpoint. There the driver is killed, another model goes into
production, and the job is started again: what was decided keeps its bytes, what wasn't gets the new model.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import psutil
import pytest

from fraud import bus, history
from fraud.settings import Settings
from fraud.store import open_store
from fraud.store.base import PartitionKey, Store
from spark_jobs import checkpoint
from tests import servers
from tests.spark_jobs import jobs, uninterrupted
from tests.spark_jobs.jobs import Message, Source

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]  # a quiet machine needs 90 s

DAY_MS = 86_400_000
PAUSE_DAYS = 40
PARTITION = 0  # everybody's, so that a burst is one slice and one task
USERS = [user for user in (f"u{n}" for n in range(100)) if bus.partition_of(user, 2) == PARTITION]
MANY, PAUSING, *OTHERS = USERS
MOST_BURSTS = 30
# Rows: three chunks of output (spark_jobs.task.CHUNK_ROWS). The task holds when the second has left it, and that one
# may have reached the JVM whole or not; the third hasn't.
LARGE = 21_000

Place = Literal["committed", "decided", "checkpoint", "yielded"]
PLACES: list[Place] = ["committed", "decided", "checkpoint", "yielded"]


@dataclass
class Point:
    """What was found when the job had died at its place, and what was sent around it.

    Attributes:
        burst: what was in work when the job died; `after`: what was sent before it was started again.
        outbox: the burst's answers that the store held.
        published: the burst's sources with an answer in the topics.
        checkpointed: the offset of PARTITION up to which Spark knew everything to be published.
        version: the model's before the death; the next one goes into production before the restart.
    """

    place: Place
    version: int
    burst: list[Source]
    after: list[Source] = field(default_factory=list)
    outbox: dict[Source, bytes] = field(default_factory=dict)
    published: set[Source] = field(default_factory=set)
    checkpointed: int = 0
    killed_at: int = 0  # ms since the epoch


@dataclass(frozen=True)
class Story:
    """All points, and what is left when the job has ended in order."""

    settings: Settings
    points: dict[Place, Point]
    answers: jobs.Answers
    state: uninterrupted.State
    expected: uninterrupted.Uninterrupted


class Traffic:
    """Sends bursts: a user of 300 transactions in each, one with a pause of 40 days before each, others."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self._bursts = 0
        self._n = 0

    def burst(self, rows: int = 400) -> list[Source]:
        """Send a burst of `rows`, a refused one and a repeat among them; return where they stand."""
        number, self._bursts = self._bursts, self._bursts + 1
        now = time.time_ns() // 1_000_000
        long_ago = now - (MOST_BURSTS - number) * PAUSE_DAYS * DAY_MS
        sent = [self._one(MANY) for _ in range(300)]
        sent += [self._one(PAUSING, at=long_ago + n * 1_000) for n in range(5)]
        sent += [self._one(OTHERS[n % len(OTHERS)]) for n in range(rows - len(sent) - 2)]
        sent += [Message(OTHERS[0].encode(), b"not JSON"), sent[-1]]
        return jobs.produce(self._settings, sent)

    def one_and_wait(self) -> None:
        """Send a single transaction and wait until it is decided: the next batch follows this one at once."""
        (source,) = jobs.produce(self._settings, [self._one(OTHERS[0])])

        def decided() -> bool:
            reached = {key.partition: at for key, at in self._store.histories.positions().items()}
            return reached[source.partition] > source.offset

        servers.wait_for(f"{source} is decided", decided, jobs.READY_SECONDS, every=0.005)

    def _one(self, user: str, at: int | None = None) -> Message:
        self._n += 1
        return jobs.message(self._n, user_id=user, now_ms=at)


@pytest.fixture(scope="module")
def story(kafka: servers.Server, stack_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Live through all four deaths with one home, one broker and five starts."""
    servers.fresh_topics(stack_settings)
    home = tmp_path_factory.mktemp("points")
    settings = servers.settings(home, kafka_bootstrap=stack_settings.kafka_bootstrap, max_age_days=None)
    jobs.publish_model(settings)
    store = open_store(settings)
    traffic = Traffic(settings, store)
    points = {}
    with jobs.Job(settings) as job:
        job.start().wait_until_scoring()
        jobs.answers(settings, wanted=traffic.burst())
        for version, place in enumerate(PLACES, 1):
            point = Point(place, version, burst=DIE[place](job, traffic))
            point.killed_at = time.time_ns() // 1_000_000
            look(point, settings, store)
            jobs.publish_model(settings, seed=version, version=str(version + 1))
            point.after = traffic.burst(LARGE if place == "checkpoint" else 400)
            points[place] = point
            if place == "checkpoint":
                job.fault("yielded", "hold", transaction="1")
                job.extra["FRAUD_SCORE_PROFILE"] = "throughput"  # the large burst is one micro-batch
            job.start().wait_until_scoring()
            job.extra.clear()
            if place != "checkpoint":
                jobs.answers(settings, wanted=[*point.burst, *point.after])
            if place == "decided":
                let_the_orphan_go_on(job)
        assert job.stop() == 0, job.words()
    state = uninterrupted.state_of(store, settings.topic_partitions)
    store.close()
    answers = jobs.answers(settings)
    report(points, answers)
    yield Story(settings, points, answers, state, uninterrupted.run(settings))


def die_after_the_commit(job: jobs.Job, traffic: Traffic) -> list[Source]:
    job.fault("committed", "hold")
    burst = traffic.burst()
    job.wait_until_held()
    return killed(job, burst)


def die_before_the_commit(job: jobs.Job, traffic: Traffic) -> list[Source]:
    """Without its daemon a worker outlives the JVM: it will try to commit beside the next job."""
    job.fault("decided", "hold")
    burst = traffic.burst()
    job.wait_until_held()
    job.kill("daemon")
    job.kill("driver")
    return burst


def die_before_the_checkpoint(job: jobs.Job, traffic: Traffic) -> list[Source]:
    """With async progress, a batch that begins within a second of the last logged one isn't logged."""
    for _ in range(10):
        traffic.one_and_wait()
        burst = traffic.burst()
        jobs.answers(job.settings, wanted=burst)
        if checkpoint.published(job.settings.checkpoint, bus.TRANSACTIONS)[PARTITION] <= burst[-1].offset:
            return killed(job, burst)
    raise AssertionError("every batch was logged at once; is async progress tracking on?")


def die_inside_the_output(job: jobs.Job, traffic: Traffic) -> list[Source]:
    """The large burst was sent before this start; its first chunk is with the JVM once the second one has left."""
    job.wait_until_held()
    ends = bus.end_offsets(job.settings.kafka_bootstrap, bus.TRANSACTIONS)
    burst = [Source(PARTITION, offset) for offset in range(ends[PARTITION] - LARGE, ends[PARTITION])]
    servers.wait_for("a part of the output is in Kafka", lambda: answered(job.settings, burst), 30)
    return killed(job, burst)


DIE = {
    "committed": die_after_the_commit,
    "decided": die_before_the_commit,
    "checkpoint": die_before_the_checkpoint,
    "yielded": die_inside_the_output,
}


def killed(job: jobs.Job, burst: list[Source]) -> list[Source]:
    """Kill the driver; its JVM ends by itself, and only then may a held worker go on: nobody reads it any more."""
    jvm = job.pids().jvm
    job.kill("driver")
    servers.wait_for("the JVM has ended", lambda: jvm not in job.descendants(), 15, every=0.02)
    job.release()
    servers.wait_for("nobody of the job is left", lambda: not job.descendants(), 15)
    return burst


def let_the_orphan_go_on(job: jobs.Job) -> None:
    """Release the worker whose slice another job has decided meanwhile; it must not write."""
    pid = int(job.fault_file.with_suffix(".held").read_text())
    assert psutil.pid_exists(pid), "the orphan didn't live to see its successor"
    job.release()
    servers.wait_for("the orphan has ended", lambda: pid not in job.descendants(), 15)


def answered(settings: Settings, burst: Sequence[Source]) -> set[Source]:
    """Return those of a burst that have a published answer now."""
    return jobs.answers(settings, wanted=[]).by_source.keys() & set(burst)


def look(point: Point, settings: Settings, store: Store) -> None:
    """Note what a dead job has left in the store, in the topics and in the checkpoint."""
    key = PartitionKey(bus.topic_id(settings.kafka_bootstrap, bus.TRANSACTIONS), PARTITION)
    left = store.histories.answers(key, point.burst[0].offset, point.burst[-1].offset + 1)
    point.outbox = {Source(PARTITION, int(at)): value for at, value in zip(left.offsets, left.values, strict=True)}
    point.published = answered(settings, point.burst)
    point.checkpointed = checkpoint.published(settings.checkpoint, bus.TRANSACTIONS)[PARTITION]


def report(points: dict[Place, Point], answers: jobs.Answers) -> None:
    for place, point in points.items():
        first = min(answers[source].at for source in point.after)
        print(
            f"{place}: {len(point.burst)} in work, {len(point.outbox)} in the outbox, "
            f"{len(point.published)} published, "
            f"{sum(len(answers.by_source[source]) - 1 for source in point.burst)} repeats; "
            f"first new answer {(first - point.killed_at) / 1_000:.1f} s after the kill"
        )
    print(f"{len(answers.by_source)} offsets, {answers.repeats} repeats", flush=True)


@pytest.fixture(params=PLACES)
def point(request: pytest.FixtureRequest, story: Story) -> Point:
    return story.points[request.param]


def test_the_job_died_there(point: Point) -> None:
    """What it left behind says at which place it died; else the other tests prove nothing."""
    burst = set(point.burst)
    stored, published = point.outbox.keys() & burst, point.published
    match point.place:
        case "decided":
            assert (stored, published) == (set(), set())
        case "committed":
            assert (stored, published) == (burst, set())
        case "yielded":
            assert stored == burst
            assert set() < published < burst
        case "checkpoint":
            assert (stored, published) == (burst, burst)
    assert point.checkpointed <= point.burst[-1].offset


def test_what_was_decided_keeps_its_bytes_under_the_next_model(point: Point, story: Story) -> None:
    for source, value in point.outbox.items():
        assert {copy.value for copy in story.answers.by_source[source]} == {value}, source


def test_the_version_is_the_one_of_the_decision(point: Point, story: Story) -> None:
    """The old model's where the commit came before the death, else the new one's."""
    new = point.version + 1
    old = new if point.place == "decided" else point.version
    assert versions(story, point.burst) == {str(old)}
    assert versions(story, point.after) == {str(new)}


def versions(story: Story, sources: Sequence[Source]) -> set[str]:
    answers = [story.answers[source] for source in sources]
    return {each.json()["model_version"] for each in answers if each.kind == "prediction"}


@pytest.mark.parametrize("place", ["checkpoint", "yielded"])
def test_what_was_published_before_the_death_is_repeated(place: Place, story: Story) -> None:
    """Both places lie behind an output that the checkpoint doesn't know."""
    point = story.points[place]
    assert all(len(story.answers.by_source[source]) > 1 for source in point.published)


def test_every_offset_has_its_answer_and_repeats_are_the_same_bytes(story: Story) -> None:
    assert story.answers.by_source.keys() == story.expected.said.keys()
    assert story.answers.differing() == []


def test_everything_said_equals_an_uninterrupted_run(story: Story) -> None:
    wrong = uninterrupted.differing(story.answers.by_source, story.expected, other_models=True)
    assert not wrong, f"{len(wrong)} differ, the first: {wrong[0]}"


def test_the_state_equals_an_uninterrupted_runs(story: Story) -> None:
    assert story.state == story.expected.state


def test_the_hard_histories_were_there(story: Story) -> None:
    """One user beyond the 512 entries that a history keeps, one whose every burst finds an expired past."""
    said = [(at, copies[0].json()) for at, copies in sorted(story.answers.predictions.items())]
    counts = {
        user: [one["features"]["user_txn_count_30d"] for _, one in said if one["user_id"] == user] for user in USERS
    }
    assert len(counts[MANY]) > 1_000
    assert max(counts[MANY]) == 512
    assert counts[PAUSING] == [0, 1, 2, 3, 4] * (len(counts[PAUSING]) // 5)
    (pausing,) = [raw for (_, user), raw in story.state.histories.items() if user == PAUSING]
    assert len(history.unpack([pausing]).entries) == 5
