"""Parity while labels come back: score job and archive job run, and verdicts change the rates that the stream reads.

The producer waits at each quarter-hour of the events until the profiles know the one before it, as real time would
have it, so no row may be stale: what the stream said must equal what the offline builder says of the changes that
the archive job wrote down.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pytest

from fraud import bus
from fraud.backfill import Past
from fraud.features import FEATURE_NAMES
from fraud.lake import open_lake, read
from fraud.lake.tables import BACKFILL, PROFILE_CHANGES
from fraud.parity import topics
from fraud.parity.comparison import compare
from fraud.parity.offline import must_say
from fraud.settings import Settings
from fraud.store import open_store
from fraud.times import format_time
from producer.publisher import publish
from producer.tables import write_tables
from tests import servers
from tests.spark_jobs import commands, jobs
from tests.spark_jobs.live_labels import STREAM, Step, simulation, steps

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]
STEP_SECONDS = 180.0
RATES = ("merchant_fraud_rate_1d", "merchant_fraud_rate_7d", "merchant_fraud_rate_30d")


@dataclass(frozen=True)
class Run:
    """The stream after both jobs: the settings, and what `parity` reported."""

    settings: Settings
    report: dict[str, Any]


@pytest.fixture(scope="module")
def run(kafka: servers.Server, stack_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    servers.fresh_topics(stack_settings)
    home = tmp_path_factory.mktemp("live")
    settings = servers.settings(
        home,
        kafka_bootstrap=stack_settings.kafka_bootstrap,
        lake_uri=str(home / "lake"),
        max_age_days=None,
        archive_seconds=0,
        archive_ui_port=0,
    )
    write_tables(simulation(), home / "past")
    commands.call(settings, "backfill", str(home / "past"), "--until", format_time(STREAM))
    jobs.publish_model(settings)
    with commands.running(settings, "score", "--no-watch"), commands.running(settings, "archive"):
        with closing(open_store(settings)) as store:
            for step in steps():
                servers.wait_for(
                    f"the profiles know the quarter before {step.quarter}",
                    lambda step=step: (store.profiles.through() or 0) >= step.quarter - 1,  # type: ignore[misc]
                    STEP_SECONDS,
                    every=0.02,
                )
                send(settings, step)
        sent = sum(bus.end_offsets(settings.kafka_bootstrap, bus.TRANSACTIONS).values())
        servers.wait_for("all is answered", lambda: commands.answered(settings) >= sent, STEP_SECONDS)
        report = commands.result(settings, "parity")
    yield Run(settings, report)


def send(settings: Settings, step: Step) -> None:
    done = publish(settings, [*step.labels, *step.transactions], validate=False)
    assert (done.labels, done.valid) == (len(step.labels), len(step.transactions))


def test_no_row_is_stale_and_none_differs(run: Run) -> None:
    accepted = len({row.transaction_id for step in steps() for row in step.transactions})
    assert run.report == {"rows": accepted, "compared": accepted, "stale": 0, "mismatches": 0, "by_feature": {}}
    assert accepted > 200


def test_verdicts_moved_the_rates_that_the_stream_read(run: Run) -> None:
    lake = open_lake(run.settings)
    table = lake.scan(PROFILE_CHANGES)
    live = table.filter((pl.col("topic_id") != BACKFILL) & (pl.col("cause") == bus.LABELS)).collect()
    assert live.filter(pl.col("frauds") == 1).height >= 100
    assert live.filter(pl.col("frauds") == -1).height >= 20, "verdicts that were taken back"
    ancient = live.filter(pl.col("transaction_id").str.starts_with("ancient"))
    assert ancient.height >= 20, "verdicts that came before their payments"
    assert live.select(pl.struct("transaction_id", "offset", "partition").n_unique()).item() == live.height
    said = topics.read_predictions(run.settings.kafka_bootstrap)
    rates = said.matrix[:, [FEATURE_NAMES.index(name) for name in RATES]]
    assert np.isfinite(rates[:, 1:]).mean() > 0.9
    # What must have been said if no verdict had come back: nothing but the rates differs, and many do.
    unmoved = must_say(
        topics.read_transactions(run.settings.kafka_bootstrap),
        Past(simulation().transactions, simulation().labels, STREAM),
        read.changes(table.filter((pl.col("topic_id") == BACKFILL) | (pl.col("cause") != bus.LABELS))),
        partitions=run.settings.topic_partitions,
        max_age_ms=None,
        skipped=np.empty(0, np.int64),
    )
    differs = compare(unmoved, said, topics.read_rejections(run.settings.kafka_bootstrap)).by_feature
    assert set(differs) <= set(RATES)
    assert differs["merchant_fraud_rate_7d"] > 100
    assert differs["merchant_fraud_rate_30d"] > 100
