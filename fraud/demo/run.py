"""What the demo does, step by step; each is what a person would do by hand with the command in brackets.

A population is simulated up to this morning, with a new way to defraud that begins after some weeks. All but its
last days are the past: histories and merchant profiles in the online store, payments and labels in the lake
[backfill]. Version 1 is trained as of the day on which the new pattern begins, and promoted [train, promote]. The
last days are streamed with their own timestamps, faster than they happened, with some mistakes between them, and
labels come back on their own topic as they became known [replay --labels]. After a while Airflow is asked for the
DAG `retrain`: it builds the training set from the lake, trains, judges, and promotes version 2 only if it is better.
The stream goes on meanwhile, swaps to it, and what version 1 missed is found.
"""

import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fraud.bench.processes import PeakMemory, machine
from fraud.demo import outcome
from fraud.demo.beginning import Beginning
from fraud.demo.commands import OWNER
from fraud.demo.models import wait_for_model
from fraud.demo.plan import PATTERN, Plan, Times, times
from fraud.demo.retraining import Retraining
from fraud.demo.ticker import Ticker
from fraud.demo.traffic import ANSWER_SECONDS, Traffic
from fraud.parity.topics import wait_for_answers
from fraud.settings import Settings
from fraud.stack.supervisor import Stack, running

if TYPE_CHECKING:
    from producer.simulate import Simulation

POLL_SECONDS = 0.2
# The streamed days are this old at most when the demo begins a minute before midnight, and some minutes more.
MAX_AGE_DAYS = 8.0
ARCHIVE_SECONDS = 2.0
STOP_SECONDS = 7.0  # nothing of it is kept: whoever needs longer to end is killed

Say = Callable[[str], None]


def prepare(settings: Settings) -> Settings:
    """Return settings for the demo's own home, empty but for what is fetched once."""
    home = (settings.home / "demo").absolute()
    cache = settings.cache.absolute()
    settings.make_home()
    cache.mkdir(parents=True, exist_ok=True)
    home.mkdir(parents=True, exist_ok=True)
    # Never somebody's own store or lake, and the age limit that the streamed days are made for.
    own = settings.model_copy(
        update={
            "home": home,
            "store_url": "lmdb:",
            "lake_uri": "s3://lake",
            "max_age_days": MAX_AGE_DAYS,
            "archive_seconds": ARCHIVE_SECONDS,
        }
    )
    Stack(own, OWNER).stop(lambda _: None)  # what a killed demo left behind
    for path in (own.data, own.logs, home / "simulated"):
        shutil.rmtree(path, ignore_errors=True)
    if not own.cache.exists():
        own.cache.symlink_to(cache)
    return own


def run(settings: Settings, plan: Plan, say: Say) -> dict[str, Any]:
    """Run the demo in `settings`' home (see `prepare`) and return its report; everything it started is stopped.

    Raises:
        FraudError: what went wrong, and where to look.
    """
    begun = time.monotonic()
    peak = PeakMemory(lambda: [os.getpid(), *(each.pid for each in Stack(settings, OWNER).processes())])
    try:
        when = times(plan, datetime.now(UTC))
        directory = settings.home / "simulated"
        simulation = simulate(plan, when, directory, say)
        beginning = Beginning(settings, plan, when, directory, say)
        with running(Stack(settings, OWNER, beginning.describe), say, STOP_SECONDS) as started:
            addresses = {each.entry.name: each.entry.ui or each.entry.address for each in started if each.entry.ports}
            for name, address in addresses.items():
                say(f"  {name}: {address}")
            promoted = beginning.promoted
            wait_for_model(settings, next(iter(promoted)))
            retraining = Retraining(settings, plan, when.second, promoted, say)
            traffic = stream(settings, plan, simulation, when, retraining, say)
            found = read_answers(settings, say)
        truth = dict(simulation.truth.select("transaction_id", "scenario").iter_rows())
        return {
            **outcome.report(found, traffic.sent, truth, promoted, peak.close()),
            **outcome.recall_of(found, truth, PATTERN, promoted),
            "dag_run_state": retraining.state,
            "labels": traffic.told,
            "seconds": round(time.monotonic() - begun, 1),
            "machine": machine(),
            "addresses": addresses,
        }
    finally:
        peak.close()


def simulate(plan: Plan, when: Times, directory: Path, say: Say) -> "Simulation":
    """Make the population and write its tables [simulate]."""
    from producer.simulate import Config, generate
    from producer.tables import write_tables

    simulation = generate(
        Config(
            start=when.start,
            days=plan.days,
            seed=plan.seed,
            users=plan.users,
            merchants=plan.merchants,
            scenarios=plan.scenarios,
        )
    )
    write_tables(simulation, directory)
    say(
        f"simulated {simulation.transactions.height:,} transactions of {plan.users:,} users over {plan.days} days; "
        f"from {when.first:%Y-%m-%d} on there is {PATTERN.replace('_', ' ')}, a new way to defraud"
    )
    return simulation


def stream(
    settings: Settings, plan: Plan, simulation: "Simulation", when: Times, retraining: Retraining, say: Say
) -> Traffic:
    """Stream the last days [replay --labels] while predictions scroll by [consume]; retrain meanwhile."""
    import polars as pl

    traffic = Traffic(
        settings,
        plan,
        simulation.transactions.filter(pl.col("timestamp") >= when.begin),
        simulation.labels.filter(pl.col("labelled_at") > when.begin),
    )
    say(
        f"streaming at {plan.rate:,.0f} transactions/s, {plan.bad:.1%} mistakes among them; "
        f"{plan.streamed_days * 86_400 * plan.rate / len(traffic.rows):,.0f} seconds pass in one"
    )
    ticker = Ticker(settings.kafka_bootstrap, say)
    try:
        traffic.open()
        traffic.until(when.second)
        say(f"{traffic.told:,} labels have come back")
        retraining.start()
        traffic.while_waiting(retraining.done)
        traffic.rest()
        retraining.finish()
    finally:
        ticker.close()
    return traffic


def read_answers(settings: Settings, say: Say) -> outcome.Outcome:
    """Return the topics' content once every message is answered, or once waiting is over."""
    deadline = time.monotonic() + ANSWER_SECONDS
    say("waiting for the last answers")
    wait_for_answers(settings.kafka_bootstrap, ANSWER_SECONDS)
    while True:
        found = outcome.read(settings.kafka_bootstrap, {})
        if not found.missing() or time.monotonic() > deadline:
            return found
        time.sleep(POLL_SECONDS)
