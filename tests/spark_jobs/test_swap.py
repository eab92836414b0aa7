"""Ten promotions and a rollback under load: the stream changes its model and loses nothing.

Real Kafka, Spark, MLflow and S3, the watcher beside the driver, and `produce` sending more than a thousand
transactions a second all the while.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

import numpy as np
import pytest

from fraud import bus, registry
from fraud.model import Scorer
from fraud.settings import Settings
from fraud.verdicts import decisions
from tests import servers
from tests.registry.versions import log_versions, reset, set_alias, set_stage, state
from tests.spark_jobs import commands, jobs
from tests.spark_jobs.tail import Tail, matrix_of
from tests.spark_jobs.traffic import Source

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]  # the servers and the job start slowly beside others

PROMOTIONS = 10
PARTITIONS = 2
RATE = 1_300  # a second: a busy machine keeps more than 1,000 of it
LEAST = 50  # predictions of each version, in each partition
SWAP_SECONDS = 5.0


@dataclass(frozen=True)
class Swap:
    """One change of the model: how it was asked for, and seconds from the call's return to its first prediction."""

    how: str
    version: str
    seconds: float


@dataclass(frozen=True)
class Run:
    """What came of the whole."""

    order: list[str]  # the versions as they were put into Production
    swaps: list[Swap]
    tail: Tail
    sent: dict[int, tuple[int, int]]  # partition -> first and last offset
    rate: float  # a second


@pytest.fixture(scope="module")
def settings(
    kafka: servers.Server,
    mlflow_server: servers.Server,
    stack_settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Settings:
    servers.fresh_topics(stack_settings)
    return servers.settings(
        tmp_path_factory.mktemp("swap"),
        kafka_bootstrap=stack_settings.kafka_bootstrap,
        mlflow_uri=stack_settings.mlflow_uri,
        s3_endpoint=stack_settings.s3_endpoint,
        watch_seconds=Settings.load({}).watch_seconds,  # a swap is measured as a user has it
    )


@pytest.fixture(scope="module")
def run(settings: Settings) -> Iterator[Run]:
    """Eleven versions one after the other in Production while transactions flow, then one step back."""
    versions = [each.version for each in log_versions(settings, PROMOTIONS + 1)]
    set_alias(settings, versions[0])
    with jobs.Job(settings, watch=True) as job, Tail(settings) as tail:
        job.start().wait_until_scoring()
        with commands.running(settings, "produce", "--rate", str(RATE), "--json") as producer:
            enough(tail, versions[0], seconds=120)
            tail.until("the cold start's backlog is worked off", lambda: waiting(settings, tail) < RATE, 120)
            swaps = [promote(settings, tail, number, versions[number]) for number in range(1, PROMOTIONS + 1)]
            swaps.append(roll_back(settings, tail, versions[-2]))
            produced = json.loads(commands.finish(producer))
        sent = {int(partition): (first, last) for partition, (first, last) in produced["offsets"].items()}
        wanted = sum(last + 1 - first for first, last in sent.values())
        assert produced["valid"] == wanted
        tail.until("every transaction is answered", lambda: len(tail.by_source) >= wanted)
        assert job.stop() == 0, job.words()
        tail.until("what the end brought is read", lambda: read_all(settings, tail))
        done = Run([*versions, versions[-2]], swaps, tail, sent, wanted / produced["seconds"])
        print(told(done))
        yield done
    reset(settings)


def enough(tail: Tail, version: str, before: int = 0, seconds: float = 30.0) -> None:
    """Read until `version` has decided enough transactions of each partition, beyond `before` each."""
    seen = tail.seen[version]
    tail.until(
        f"version {version} scores every partition",
        lambda: len(seen) == PARTITIONS and min(seen.values()) >= before + LEAST,
        seconds,
    )


def promote(settings: Settings, tail: Tail, number: int, version: str) -> Swap:
    """Put the next version into Production as somebody does in MLflow's UI: by alias and by stage in turns."""
    how = "alias" if number % 2 else "stage"
    if how == "alias":
        set_alias(settings, version)
    else:
        set_stage(settings, version, archive=True)
    asked_at = time.time()
    enough(tail, version)
    return Swap(how, version, tail.first_at[version] / 1000 - asked_at)


def roll_back(settings: Settings, tail: Tail, version: str) -> Swap:
    """Go back by the product's own rollback; the version has decided before, so its return is looked for."""
    highest = {
        partition: max(s.offset for s in tail.by_source if s.partition == partition) for partition in range(PARTITIONS)
    }
    before = max(tail.seen[version].values())
    moved = registry.rollback(settings, "worse", who="tests", at=datetime.now(UTC))
    asked_at = time.time()
    assert moved.version == version
    enough(tail, version, before)
    again = [
        each.at
        for source, each in tail.by_source.items()
        if each.said.model_version == version and source.offset > highest[source.partition]
    ]
    return Swap("rollback", version, min(again) / 1000 - asked_at)


def waiting(settings: Settings, tail: Tail) -> int:
    """Return how many transactions have no answer yet."""
    return sum(bus.end_offsets(settings.kafka_bootstrap, bus.TRANSACTIONS).values()) - len(tail.by_source)


def read_all(settings: Settings, tail: Tail) -> bool:
    ends = bus.end_offsets(settings.kafka_bootstrap, bus.PREDICTIONS)
    return len(tail.by_source) + tail.repeats >= sum(ends.values())


def told(run: Run) -> str:
    swaps = ", ".join(f"{swap.how} {swap.version}: {swap.seconds:.2f}" for swap in run.swaps)
    middle = median(swap.seconds for swap in run.swaps)
    counts = [sum(run.tail.seen[version].values()) for version in run.order[:-1]]
    return (
        f"{len(run.tail.by_source):,} predictions at {run.rate:,.0f}/s, {min(counts):,} to {max(counts):,} a version; "
        f"seconds to swap: {swaps}; median {middle:.2f}"
    )


def test_no_transaction_is_lost_or_decided_twice(run: Run, settings: Settings) -> None:
    wanted = {Source(p, offset) for p, (first, last) in run.sent.items() for offset in range(first, last + 1)}
    assert set(run.tail.by_source) == wanted
    assert run.tail.changed == [], "a repeat must be the same bytes, its version among them"
    assert sum(bus.end_offsets(settings.kafka_bootstrap, bus.DLQ).values()) == 0
    assert run.rate >= 1_000


def test_versions_follow_the_order_of_promotions_by_source_offset(run: Run) -> None:
    assert len(set(run.order)) == PROMOTIONS + 1
    for partition in range(PARTITIONS):
        assert run.tail.versions(partition) == run.order
    assert {each.said.model_name for each in run.tail.by_source.values()} == {registry.MODEL}


def test_every_version_decides_at_least_fifty(run: Run) -> None:
    counts = {version: sum(run.tail.seen[version].values()) for version in run.order}
    assert min(counts.values()) >= 50, counts


def test_a_swap_takes_at_most_five_seconds(run: Run) -> None:
    assert [swap.how for swap in run.swaps] == ["alias", "stage"] * (PROMOTIONS // 2) + ["rollback"]
    assert max(swap.seconds for swap in run.swaps) <= SWAP_SECONDS, told(run)


def test_every_prediction_is_its_own_versions(run: Run, settings: Settings) -> None:
    """Probability, decision and threshold are those of the bundle that the version names, to the last bit."""
    others = dict(zip(run.order[:-1], run.order[1:], strict=True))
    scorers = {version: Scorer(registry.fetch(settings, version)) for version in set(run.order)}
    for version, scorer in scorers.items():
        said = run.tail.of(version)
        matrix = matrix_of(said)
        probabilities = scorer.predict(matrix)
        assert probabilities.tolist() == [each.fraud_probability for each in said]
        assert decisions(probabilities, scorer) == [each.decision for each in said]
        assert (probabilities >= scorer.review).astype(int).tolist() == [each.prediction for each in said]
        assert {each.threshold for each in said} == {scorer.review}
        # Another version says something else, or nothing would be proved.
        assert np.mean(scorers[others[version]].predict(matrix) != probabilities) > 0.9


def test_alias_and_stage_end_in_step(run: Run, settings: Settings) -> None:
    def in_step() -> bool:
        alias, staged, _ = state(settings)
        return alias == run.order[-1] and staged == [run.order[-1]]

    servers.wait_for("alias and stage name the version rolled back to", in_step, 10)
