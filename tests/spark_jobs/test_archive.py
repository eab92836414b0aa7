"""The archive job against a real Kafka: killed again and again, and fed with every kind of bad label."""

import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import polars as pl
import pytest
from pydantic import SecretStr

from fraud import bus
from fraud.builder import bulk_changes
from fraud.errors import StateError
from fraud.lake import open_lake, read
from fraud.lake.tables import LABELS, PROFILE_CHANGES, REJECTIONS
from fraud.profiles import CHANGE
from fraud.s3 import s3_credentials
from fraud.settings import Settings
from fraud.store import open_store
from spark_jobs import archive_ends
from tests import servers
from tests.spark_jobs import jobs
from tests.spark_jobs.archiving import (
    DAY_MS,
    NOW,
    Archive,
    Sent,
    assert_equal_to_topics,
    caught_up,
    original,
    payment,
    rows_of,
    send,
    send_answered,
    totals,
    verdict,
)

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]


@pytest.fixture
def settings(
    kafka: servers.Server, stack_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    servers.fresh_topics(stack_settings)
    home = tmp_path_factory.mktemp("archive")
    yield servers.settings(
        home,
        kafka_bootstrap=stack_settings.kafka_bootstrap,
        lake_uri=str(home / "lake"),
        archive_seconds=0,
        archive_ui_port=0,
        archive_max_offsets=2_000,
        max_age_days=None,
    )


def assert_profiles_are_right(settings: Settings) -> None:
    """Compare the store's profiles with `profile_changes`, and their totals with the offline builder's."""
    lake = open_lake(settings)
    changes = read.changes(lake.scan(PROFILE_CHANGES))
    with closing(open_store(settings)) as store:
        stored = {merchant: np.frombuffer(raw, CHANGE) for merchant, raw in store.profiles.merchants()}
        through = store.profiles.through()
        batches = lake.scan(PROFILE_CHANGES).select("query", "batch").unique().collect().rows()
        reached = archive_ends.read(lake)
        assert reached is not None
        query, number = max(batches, key=lambda one: (reached.queries.index(one[0]), one[1]))
        assert store.profiles.applied() == f"{query}/{number}"
    kept = {
        merchant: mine.sort("quarter", "effective").select(CHANGE.names or ()).rows()
        for (merchant,), mine in changes.group_by("merchant_id")
    }
    assert {merchant: rows.tolist() for merchant, rows in stored.items()} == kept
    transactions = read.transactions(read.accepted(lake, lake.cut())).collect()
    labels = lake.scan(LABELS).sort("partition", "offset").collect()
    assert totals(changes) == totals(bulk_changes(transactions, labels))
    assert through == changes["quarter"].max()


class Load:
    """Payments, their answers and labels, sent by a thread for as long as the block lasts."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._end = settings, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.sent = 0
        self.error: BaseException | None = None

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(30)
        assert self.error is None, self.error

    def _run(self) -> None:
        try:
            while not self._end.wait(0.5):
                self.burst()
        except Exception as exc:  # noqa: BLE001 - the test fails with it
            self.error = exc

    def burst(self) -> None:
        """Send 60 payments, one of them unreadable, labels of old and of coming ones, contradictions and repeats."""
        first, rng = self.sent, random.Random(self.sent)
        self.sent += 60
        known = [rng.randrange(self.sent) for _ in range(6)]
        send(self._settings, [verdict(self.sent + 30), *(verdict(n, rng.random() < 0.7) for n in known)])
        bad = Sent(bus.TRANSACTIONS, b"u1", b"nonsense")
        send_answered(self._settings, [*(payment(n) for n in range(first, self.sent)), bad])
        labels = [verdict(n, rng.random() < 0.5, at=NOW - rng.randrange(DAY_MS)) for n in known]
        send(self._settings, [*labels, labels[0], verdict(7, key=b"another")])


def test_killed_again_and_again_the_lake_is_the_topics_and_profiles_are_right(settings: Settings) -> None:
    seed = time.time_ns() % 10_000
    print(f"moments by seed {seed}")
    rng = random.Random(seed)
    with Archive(settings) as job:
        with Load(settings) as load:
            for _ in range(5):
                job.start().ready()
                if rng.random() < 0.7:  # else its first batch, which takes the longest, may be met
                    job.wait_for_a_batch()
                moment = rng.uniform(0.0, 1.5)
                time.sleep(moment)  # the moment itself is what is tried
                job.kill()
                print(f"killed after {moment:.2f} s and {job.batches} batches, {load.sent} payments sent")
        # Twice more at a step (test_archive_batch.py has them all), and the checkpoint is lost too:
        # the lake alone knows how far it was.
        for step in ("predictions", "profile_changes"):
            job.order(step)
            load.burst()
            assert job.start().wait() == -signal.SIGKILL, step
            shutil.rmtree(settings.data / "checkpoints" / "archive")
        job.start()
        caught_up(settings)
        assert job.stop() == 0, job.log
    counts = assert_equal_to_topics(settings)
    assert counts["transactions"] == load.sent
    assert_profiles_are_right(settings)
    refused = [row["reason"] for row in rows_of(settings, REJECTIONS) if row["source_topic"] == bus.LABELS]
    assert set(refused) == {"key_mismatch"}


def test_every_kind_of_bad_label_ends_in_a_clear_state(settings: Settings) -> None:
    now = time.time_ns() // 1_000_000
    short = settings.model_copy(update={"label_parking_days": 2 / 86_400})
    with Archive(short) as job:
        job.start().ready()
        nobodys = verdict(900, at=now)
        send(short, [nobodys, verdict(5, at=now)])  # an unknown payment's, and one before its payment
        send_answered(short, [payment(n) for n in range(10)])
        caught_up(short)
        send(
            short,
            [
                *[verdict(1, at=now)] * 2,
                verdict(2, at=now),
                verdict(2, False, at=now + 1),  # contradicted
                verdict(3, at=now - 400 * DAY_MS),
                verdict(3, False, at=now - 35 * DAY_MS),  # corrected a year later
                verdict(4, at=now, merchant_id="m9"),  # somebody else's merchant
                verdict(6, at=now),
                verdict(6, False, at=now - DAY_MS),  # given before the last one, arriving after it
                Sent(bus.LABELS, b"u1", b"{"),
                verdict(8, key=b"u9"),
                verdict(8, at=now + 3_600_000),
            ],
        )
        caught_up(short)
        time.sleep(2.5)  # by the broker's clock the parking time must pass
        send_answered(short, [payment(10)])

        def refused() -> dict[str, dict[str, object]]:
            rows = [row for row in rows_of(short, REJECTIONS) if row["source_topic"] == bus.LABELS]
            return {row["reason"]: row for row in rows}

        wanted = {"not_json", "key_mismatch", "future_timestamp", "unknown_transaction"}
        servers.wait_for("every refused label is in the lake", lambda: set(refused()) == wanted, 30)
        assert original(refused()["unknown_transaction"]) == nobodys.value
        assert refused()["unknown_transaction"]["key"] == nobodys.key
        assert refused()["future_timestamp"]["field"] == "labelled_at"
        send_answered(short, [payment(900)])  # too late for its label
        caught_up(short)
        assert job.stop() == 0, job.log
    assert_equal_to_topics(short)
    frauds = open_lake(short).scan(PROFILE_CHANGES).filter(pl.col("frauds") != 0).collect()
    moved = frauds.group_by("transaction_id").agg(pl.col("frauds").sum(), pl.col("merchant_id").first())
    assert sorted(moved.rows()) == [
        ("t1", 1, "m1"),
        ("t2", 0, "m2"),
        ("t3", 0, "m3"),
        ("t4", 1, "m4"),
        ("t5", 1, "m5"),
        ("t6", 1, "m6"),
    ]


def test_with_s3_away_nothing_is_lost(settings: Settings, s3: servers.Server, stack_settings: Settings) -> None:
    away = settings.model_copy(
        update={
            "lake_uri": f"s3://lake/{settings.home.name}",
            "s3_endpoint": stack_settings.s3_endpoint,
            "s3_access_key": SecretStr(s3_credentials(stack_settings)[0]),
            "s3_secret_key": SecretStr(s3_credentials(stack_settings)[1]),
        }
    )
    with Archive(away) as job:
        job.start().ready()
        send_answered(away, [payment(n) for n in range(500)])
        caught_up(away)
        s3.kill()
        try:
            send_answered(away, [payment(n) for n in range(500, 1_000)])
            send(away, [verdict(n) for n in range(0, 1_000, 50)])
            time.sleep(3)  # S3 stays away for so long
            assert job.process is not None
            assert job.process.poll() is None, job.log
        finally:
            s3.start()
        caught_up(away)
        assert job.stop() == 0, job.log
    assert assert_equal_to_topics(away)["transactions"] == 1_000
    assert_profiles_are_right(away)


def test_without_a_model_what_was_collected_counts(settings: Settings) -> None:
    with Archive(settings) as job, jobs.Job(settings) as score:
        job.start()
        score.start()
        job.ready()
        score.wait_for_log("collecting")
        for first in (0, 300):
            send(settings, [payment(n) for n in range(first, first + 300)] + [payment(first)])
            send(settings, [verdict(first + 1), verdict(first + 200)])
            caught_up(settings)
        jobs.publish_model(settings)
        sources = [jobs.Source(*at) for at in send(settings, [payment(n) for n in range(600, 700)])]
        jobs.answers(settings, wanted=sources)
        send(settings, [verdict(650)])
        caught_up(settings)
        lake = open_lake(settings)
        counted = lake.scan(PROFILE_CHANGES).filter(pl.col("cause") == bus.TRANSACTIONS).collect()
        assert sorted(counted["transaction_id"]) == sorted(f"t{n}" for n in range(700))
        assert job.stop() == 0, job.log
    assert_equal_to_topics(settings)
    assert_profiles_are_right(settings)


def test_a_store_that_is_another_one_is_refused(settings: Settings) -> None:
    with Archive(settings) as job:
        job.start().ready()
        send_answered(settings, [payment(n) for n in range(20)])
        caught_up(settings)
        assert job.stop() == 0, job.log
        with closing(open_store(settings)) as store:
            store.profiles.wipe()
        send_answered(settings, [payment(n) for n in range(20, 40)])
        assert job.start().wait() == 1
        assert "run `fraud-detect rebuild`" in job.log
        with pytest.raises(StateError, match="20 of transactions"):
            caught_up(settings, 1)
