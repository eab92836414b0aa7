"""What the demo does, step by step; each is what a person would do by hand with the command in brackets.

A population is simulated up to this morning. All but its last days are the past: histories and merchant
profiles in the online store [backfill]. Version 1 is trained as of ten days before the stream begins, and
promoted [train, promote]. The last days are streamed with their own timestamps, faster than they happened, with
some mistakes between them [replay]. Meanwhile version 2, which knows the labels up to the stream's beginning,
is trained and promoted, and the stream swaps to it.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fraud import backfill
from fraud.bench.processes import PeakMemory, machine
from fraud.demo import outcome
from fraud.demo.models import OWNER, Second, promote, train, wait_for_model
from fraud.demo.ticker import Ticker
from fraud.parity.topics import wait_for_answers
from fraud.settings import Settings
from fraud.stack.supervisor import Stack, running
from fraud.store import open_store

if TYPE_CHECKING:
    from producer.simulate import Simulation

ANSWER_SECONDS = 90.0
POLL_SECONDS = 0.2
OPENING = 200  # transactions sent before the steady rate

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How much is simulated and how fast it is streamed; a user makes two transactions a day."""

    days: int = 45
    streamed_days: int = 5
    users: int = 14_000
    merchants: int = 2_000
    rate: float = 1_000.0
    seconds: float = 110.0
    bad: float = 0.001
    seed: int = 1
    first_known_days: int = 10  # version 1 knows what was known so long before the stream begins
    second_after_s: float = 5.0
    last_s: float = 20.0  # streamed after the second version is promoted


@dataclass(frozen=True)
class Times:
    """When things happen, UTC: the stream holds [begin, end)."""

    start: datetime
    begin: datetime
    end: datetime


def times(plan: Plan, now: datetime) -> Times:
    """Place the simulation so that it ends this morning, in the rhythm of days.

    >>> times(Plan(days=3, streamed_days=1), datetime(2026, 3, 5, 10, tzinfo=UTC)).begin.isoformat()
    '2026-03-04T00:00:00+00:00'
    """
    end = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return Times(end - timedelta(days=plan.days), end - timedelta(days=plan.streamed_days), end)


def prepare(settings: Settings) -> Settings:
    """Return settings for the demo's own home, empty but for what is fetched once."""
    home = (settings.home / "demo").absolute()
    cache = settings.cache.absolute()
    settings.make_home()
    cache.mkdir(parents=True, exist_ok=True)
    home.mkdir(parents=True, exist_ok=True)
    # Never somebody's own store, and the age limit that the streamed days are made for.
    own = settings.model_copy(update={"home": home, "store_url": "lmdb:", "max_age_days": 7.0})
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
        fill_store(settings, simulation, when, say)
        with running(Stack(settings, OWNER), say) as started:
            addresses = {each.entry.name: each.entry.ui or each.entry.address for each in started}
            for name, address in addresses.items():
                say(f"  {name}: {address}")
            first = train(settings, directory, when.begin - timedelta(days=plan.first_known_days), say)
            promoted = {first: promote(settings, first, "the first model", say)}
            wait_for_model(settings, first)
            sent = stream(settings, plan, simulation, when, directory, promoted, say)
            found = read_answers(settings, say)
        truth = dict(simulation.truth.select("transaction_id", "is_fraud").iter_rows())
        report = outcome.report(found, sent, truth, promoted, peak.close())
        return {**report, "seconds": round(time.monotonic() - begun, 1), "machine": machine(), "addresses": addresses}
    finally:
        peak.close()


def simulate(plan: Plan, when: Times, directory: Path, say: Say) -> "Simulation":
    """Make the population and write its tables [simulate]."""
    from producer.simulate import Config, generate
    from producer.tables import write_tables

    simulation = generate(
        Config(start=when.start, days=plan.days, seed=plan.seed, users=plan.users, merchants=plan.merchants)
    )
    write_tables(simulation, directory)
    say(f"simulated {simulation.transactions.height:,} transactions of {plan.users:,} users over {plan.days} days")
    return simulation


def fill_store(settings: Settings, simulation: "Simulation", when: Times, say: Say) -> None:
    """Load the past into the online store [backfill]."""
    store = open_store(settings)
    try:
        loaded = backfill.load(
            backfill.Past(simulation.transactions, simulation.labels, until=_ms(when.begin)),
            store,
            partitions=settings.topic_partitions,
            clock=_now_ms,
        )
    finally:
        store.close()
    say(f"loaded {loaded.rows:,} transactions into {loaded.users:,} histories, {loaded.merchants:,} merchant profiles")


def stream(
    settings: Settings,
    plan: Plan,
    simulation: "Simulation",
    when: Times,
    directory: Path,
    promoted: dict[str, int],
    say: Say,
) -> int:
    """Stream the last days [replay] while predictions scroll by [consume]; swap to a second version meanwhile.

    Returns how many messages the broker acknowledged, the mistakes among them.
    """
    import polars as pl

    from producer.replay import replay

    rows = simulation.transactions.filter(pl.col("timestamp") >= when.begin).head(round(plan.rate * plan.seconds))
    opening, kept_back = min(len(rows) // 4, OPENING), min(len(rows) // 2, round(plan.rate * plan.last_s))
    say(f"streaming {rows.height:,} transactions at {plan.rate:,.0f}/s, {plan.bad:.1%} mistakes among them")
    stop = threading.Event()
    second = Second(settings, directory, when.begin, plan.second_after_s, promoted, say, stop)
    ticker = Ticker(settings.kafka_bootstrap, say)
    sent = []
    try:
        # A few first, until the job has answered them: a JVM's first micro-batch takes seconds.
        sent.append(replay(settings, rows.head(opening), clock=_now_ms, stop=stop))
        wait_for_answers(settings.kafka_bootstrap, ANSWER_SECONDS)
        second.start()
        for part in (rows.slice(opening, len(rows) - kept_back - opening), rows.tail(kept_back)):
            sent.append(replay(settings, part, clock=_now_ms, rate=plan.rate, bad=plan.bad, seed=plan.seed, stop=stop))
            second.finish()  # on a slow machine the stream waits for it, so that both versions are seen
    finally:
        stop.set()
        ticker.close()
    return sum(each.total for each in sent)


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


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
