"""What may happen around the score job: servers and processes that die, stores and topics that aren't the same.

A refusal exits 1 with one line that says what to do; whatever can be waited for is waited for.
"""

import shutil
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fraud import bus, registry
from fraud.settings import Settings
from fraud.store import open_store
from fraud.store.base import Lease
from tests import redis_server, servers
from tests.registry.versions import log_versions, reset
from tests.spark_jobs import jobs

pytestmark = pytest.mark.server


def a_home(kafka: Settings, home: Path) -> Settings:
    """Return the settings of a job with a home of its own beside the session's Kafka, with a model."""
    settings = servers.settings(home, kafka_bootstrap=kafka.kafka_bootstrap)
    jobs.publish_model(settings)
    return settings


def serves(settings: Settings, version: str) -> None:
    """Wait until the store's pointer names `version`."""
    store = open_store(settings)

    def check() -> bool:
        pointer = store.serving.pointer()
        return pointer is not None and pointer.model_version == version

    try:
        servers.wait_for(f"version {version} is served", check, 30)
    finally:
        store.close()


@pytest.fixture(scope="module")
def running(
    kafka: servers.Server, stack_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[jobs.Job]:
    """A job that has scored 100 transactions; beside its home lies a copy of its store from then."""
    servers.fresh_topics(stack_settings)
    settings = a_home(stack_settings, tmp_path_factory.mktemp("faults"))
    with jobs.Job(settings) as job:
        job.start().wait_until_scoring()
        jobs.produce(settings, jobs.transactions(100))
        jobs.answers(settings)
        shutil.copytree(settings.data / "store", backup(settings))
        yield job


@pytest.fixture
def ended(running: jobs.Job) -> jobs.Job:
    """The same job, ended in order."""
    if running.returncode is None:
        assert running.stop() == 0
    return running


def backup(settings: Settings) -> Path:
    return settings.data / "backup"


def leases(settings: Settings) -> dict[str, Lease]:
    store = open_store(settings)
    try:
        return store.histories.leases()
    finally:
        store.close()


def refusal(job: jobs.Job, seconds: float = jobs.READY_SECONDS) -> str:
    """Return the line with which a job ends that exits 1 by itself."""
    assert job.wait(seconds) == 1, job.words()
    return job.run_log.strip().splitlines()[-1]


def test_a_batch_without_a_row_is_nothing(running: jobs.Job) -> None:
    """A transaction that its producer took back leaves offsets without records."""
    producer = bus.producer(running.settings.kafka_bootstrap, transactional_id="taken back")
    producer.init_transactions()
    producer.begin_transaction()
    for message in jobs.transactions(20, first=1_000):
        producer.send(bus.TRANSACTIONS, key=message.key, value=message.value)
    producer.flush(30)
    producer.abort_transaction()
    producer.close()
    sent = jobs.produce(running.settings, jobs.transactions(100, first=2_000))
    answers = jobs.answers(running.settings, wanted=sent)
    assert len(answers.by_source) == 200
    ids = {copies[0].json()["transaction_id"] for copies in answers.by_source.values()}
    assert not ids & {f"t{n}" for n in range(1_000, 1_020)}
    assert running.returncode is None


def test_a_killed_worker_or_daemon_is_replaced(running: jobs.Job) -> None:
    for n, who in enumerate(("worker", "daemon", "worker")):
        running.kill(who)  # type: ignore[arg-type]
        sent = jobs.produce(running.settings, jobs.transactions(50, first=10_000 + 100 * n))
        answers = jobs.answers(running.settings, wanted=sent)
        assert all(answers[source].kind == "prediction" for source in sent)
        assert not answers.differing()
    assert running.returncode is None


def test_a_second_job_is_refused(running: jobs.Job) -> None:
    second = jobs.Job(running.settings)
    with second:
        said = refusal(second.start())
    assert f"held by pid {running.pids().driver}" in said
    assert "stop that job first" in said
    assert running.returncode is None


def test_kafka_may_die_and_come_back(running: jobs.Job, kafka: servers.Server) -> None:
    """Spark's own retries bridge it; the job goes on without a restart."""
    kafka.kill()
    try:
        time.sleep(3)  # the outage's length, not a wait for anything
    finally:
        kafka.start()
    sent = jobs.produce(running.settings, jobs.transactions(100, first=20_000))
    answers = jobs.answers(running.settings, wanted=sent, seconds=120)
    assert not answers.differing()
    assert running.returncode is None


def test_ctrl_c_ends_in_order(running: jobs.Job) -> None:
    assert running.stop(signal.SIGINT) == 0
    assert running.run_log.endswith("score: ended\n")
    servers.wait_for("nobody of the job is left", lambda: not running.descendants(), 10)
    assert leases(running.settings) == {}


@pytest.mark.parametrize("moment", [0.2, 1.0, 2.5, 4.0])
def test_ctrl_c_during_the_start(ended: jobs.Job, moment: float) -> None:
    """The product's command, which imports the job while signals are held back; a test's entry doesn't."""
    command = [sys.executable, "-m", "fraud.cli", "score", "--no-watch"]
    with jobs.Job(ended.settings, command=command) as job:
        job.start()
        time.sleep(moment)  # wherever the start is then
        # Before the job begins it is the command line that is interrupted, and before that, Python.
        assert job.stop(signal.SIGINT, seconds=10) in (0, 130, -signal.SIGINT)
        servers.wait_for("nobody of the job is left", lambda: not job.descendants(), 10)
    assert leases(ended.settings) == {}


def test_a_deleted_store_is_refused(ended: jobs.Job) -> None:
    store = ended.settings.data / "store"
    store.rename(store.with_name("away"))
    try:
        said = refusal(ended.start())
    finally:
        shutil.rmtree(store)
        store.with_name("away").rename(store)
    assert "the online store is empty" in said
    assert "fraud-detect rebuild" in said


def test_an_older_copy_of_the_store_is_refused(ended: jobs.Job) -> None:
    store = ended.settings.data / "store"
    store.rename(store.with_name("away"))
    shutil.copytree(backup(ended.settings), store)
    try:
        said = refusal(ended.start())
    finally:
        shutil.rmtree(store)
        store.with_name("away").rename(store)
    assert "it is an older copy" in said
    assert "fraud-detect rebuild" in said


def test_more_partitions_are_refused_under_the_query_and_at_a_start(ended: jobs.Job) -> None:
    ended.start().wait_until_scoring()
    jobs.answers(ended.settings, wanted=jobs.produce(ended.settings, jobs.transactions(10, first=30_000)))
    with bus.admin(ended.settings.kafka_bootstrap) as client:
        client.create_partitions({bus.TRANSACTIONS: 3})
    assert "went from 2 to 3 partitions under the running job" in refusal(ended)
    said = refusal(ended.start())
    assert "has 3 partitions, the store's histories lie in 2" in said
    assert "fraud-detect rebuild" in said


def test_a_recreated_topic_is_refused_at_a_start(ended: jobs.Job, stack_settings: Settings) -> None:
    servers.fresh_topics(stack_settings)
    said = refusal(ended.start())
    assert "was recreated" in said
    assert "fraud-detect rebuild" in said


def test_a_recreated_topic_ends_the_running_query(
    kafka: servers.Server, stack_settings: Settings, tmp_path: Path
) -> None:
    servers.fresh_topics(stack_settings)
    with jobs.Job(a_home(stack_settings, tmp_path)) as job:
        job.start().wait_until_scoring()
        jobs.produce(job.settings, jobs.transactions(100))
        jobs.answers(job.settings)
        servers.fresh_topics(stack_settings)
        said = refusal(job)
        assert "the topic transactions was" in said
        assert "under the running job" in said


def test_a_store_deleted_under_the_query_ends_it(
    kafka: servers.Server, stack_settings: Settings, tmp_path: Path
) -> None:
    servers.fresh_topics(stack_settings)
    with jobs.Job(a_home(stack_settings, tmp_path)) as job:
        job.start().wait_until_scoring()
        shutil.rmtree(job.settings.data / "store")
        assert "was removed or replaced while this process used it" in refusal(job)


def test_scoring_goes_on_without_mlflow_and_s3(
    kafka: servers.Server,
    s3: servers.Server,
    mlflow_server: servers.Server,
    stack_settings: Settings,
    tmp_path: Path,
) -> None:
    """The watcher says once that they are away, and follows the promotion that comes when they are back."""
    servers.fresh_topics(stack_settings)
    shared = {name: getattr(stack_settings, name) for name in ("kafka_bootstrap", "mlflow_uri", "s3_endpoint")}
    settings = servers.settings(tmp_path, **shared)
    now = datetime.now(UTC)
    first, second = (entry.version for entry in log_versions(settings, 2))
    with jobs.Job(settings, watch=True) as job:
        registry.promote(settings, first, "the first", who="ann", at=now)
        job.start().wait_until_scoring()
        jobs.answers(settings, wanted=jobs.produce(settings, jobs.transactions(20)))
        mlflow_server.kill()
        s3.kill()
        try:
            job.wait_for_log("The model in the store goes on; still watching")
            for n in range(3):  # several micro-batches
                sent = jobs.produce(settings, jobs.transactions(20, first=1_000 * (n + 1)))
                answers = jobs.answers(settings, wanted=sent)
                assert {answers[source].json()["model_version"] for source in sent} == {first}
        finally:
            s3.start()
            mlflow_server.start()
        job.wait_for_log("watcher: going on as before")
        assert job.run_log.count("still watching") == 1, job.words()  # however often it looked meanwhile
        registry.promote(settings, second, "better", who="ann", at=now)
        serves(settings, second)
        sent = jobs.produce(settings, jobs.transactions(20, first=9_000))
        answers = jobs.answers(settings, wanted=sent)
        assert {answers[source].json()["model_version"] for source in sent} == {second}
        assert job.stop() == 0
    reset(stack_settings)


def test_a_redis_killed_and_restarted_under_the_job_loses_nothing(
    kafka: servers.Server, stack_settings: Settings, tmp_path: Path
) -> None:
    """What was acknowledged is on its disk; a job that ended with it is started again, as the supervisor does."""
    servers.fresh_topics(stack_settings)
    with redis_server.running(tmp_path / "redis") as redis:
        url = f"{redis.program.address}/0"
        settings = servers.settings(tmp_path, kafka_bootstrap=stack_settings.kafka_bootstrap, store_url=url)
        settings = settings.model_copy(update={"store_durability": "disk"})
        jobs.publish_model(settings)
        with jobs.Job(settings) as job:
            job.start().wait_until_scoring()
            before = jobs.answers(settings, wanted=jobs.produce(settings, jobs.transactions(300)))
            job.fault("committed", "hold")  # committed, and not published yet
            jobs.produce(settings, jobs.transactions(300, first=1_000))
            job.wait_until_held()
            redis.kill()
            job.release()
            jobs.produce(settings, jobs.transactions(300, first=2_000))
            redis.start()
            after = answered_with_restarts(job)
            assert len(after.by_source) == 900
            assert not after.rejections
            assert not after.differing()
            assert all(after[source].value == before[source].value for source in before.by_source)
            assert job.stop() == 0


def answered_with_restarts(job: jobs.Job, seconds: float = 120) -> jobs.Answers:
    """Return every answer; start the job again wherever it ends by itself meanwhile."""
    deadline = time.monotonic() + seconds
    while True:
        if job.returncode is not None:
            job.start()
        found = jobs.answers(job.settings, seconds=2, strict=False)
        if not found.missing:
            return found
        assert time.monotonic() < deadline, f"{len(found.missing)} without an answer:\n{job.words()}"
