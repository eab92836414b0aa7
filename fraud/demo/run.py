"""What the demo does, step by step; each is what a person would do by hand with the command in brackets.

A population is simulated up to this morning. All but its last days are the past: histories and merchant
profiles in the online store [backfill]. Version 1 is trained as of ten days before the stream begins, and
promoted [train, promote]. The last days are streamed with their own timestamps, faster than they happened, with
some mistakes between them [replay]. Meanwhile version 2, which knows the labels up to the stream's beginning,
is trained and promoted, and the stream swaps to it.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fraud import backfill, registry
from fraud.bench.processes import PeakMemory, machine
from fraud.demo import outcome
from fraud.demo.ticker import Ticker
from fraud.errors import ServiceError, StateError
from fraud.parity.topics import wait_for_answers
from fraud.settings import Settings
from fraud.stack import processes
from fraud.stack.supervisor import Stack, running
from fraud.store import open_store

if TYPE_CHECKING:
    from producer.simulate import Simulation

OWNER = "demo"
ANSWER_SECONDS = 90.0
MODEL_SECONDS = 120.0
POLL_SECONDS = 0.2
OPENING = 200  # transactions sent before the steady rate
NICER = 10  # training yields to the stream

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


def train(settings: Settings, directory: Path, as_of: datetime, say: Say, *, beside_stream: bool = False) -> str:
    """Train and register a version in a process of its own [train]; return its number."""
    say(f"training on what was known at {as_of:%Y-%m-%d}")
    command = [sys.executable, "-m", "fraud.cli", "train", "--from", str(directory), "--as-of", as_of.isoformat()]
    if beside_stream:
        command = ["nice", "-n", str(NICER), *command, "--threads", "1"]
    log = settings.logs / "train.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        done = subprocess.run(  # noqa: S603
            [*command, "--json"],
            # The mark lets the stack end it, however the demo ends.
            env={**os.environ, **settings.environment(), processes.VARIABLE: _mark(settings)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            check=False,
        )
    if done.returncode != 0:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise ServiceError(f"training failed ({done.returncode}): {''.join(last)} (see {log})")
    result = json.loads(done.stdout.splitlines()[-1])
    say(f"version {result['version']} is registered, average precision {_judged(result)} on the newest known weeks")
    return str(result["version"])


def promote(settings: Settings, version: str, why: str, say: Say) -> int:
    """Move a version to Production [promote]; return when that was done, ms."""
    registry.promote(settings, version, why, who=OWNER, at=datetime.now(UTC))
    at = _now_ms()
    say(f"version {version} is in Production")
    return at


def wait_for_model(settings: Settings, version: str) -> None:
    """Return when the watcher has put the version into the online store."""
    deadline = time.monotonic() + MODEL_SECONDS
    store = open_store(settings)
    try:
        while True:
            pointer = store.serving.pointer()
            if pointer is not None and pointer.model_version == version:
                return
            if time.monotonic() > deadline:
                raise StateError(f"the score job didn't take version {version}; see {settings.logs / 'score.log'}")
            time.sleep(POLL_SECONDS)
    finally:
        store.close()


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
    second = _Second(settings, directory, when.begin, plan.second_after_s, promoted, say, stop)
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


class _Second:
    """Trains and promotes version 2 in a thread, some seconds into the stream."""

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        as_of: datetime,
        after: float,
        promoted: dict[str, int],
        say: Say,
        stop: threading.Event,
    ) -> None:
        self._settings, self._directory, self._as_of, self._after = settings, directory, as_of, after
        self._promoted, self._say, self._stop = promoted, say, stop
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="second model", daemon=True)

    def start(self) -> None:
        """Begin to wait for its time."""
        self._thread.start()

    def finish(self) -> None:
        """Return when it is promoted; raises what went wrong."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        if self._stop.wait(self._after):
            return
        try:
            version = train(self._settings, self._directory, self._as_of, self._say, beside_stream=True)
            if not self._stop.is_set():
                self._promoted[version] = promote(self._settings, version, "it knows ten more days", self._say)
        except BaseException as exc:  # noqa: BLE001 - raised by `finish`, in the main thread
            self._error = exc
            self._stop.set()


def _judged(result: dict[str, Any]) -> str:
    value = result.get("metrics", {}).get("average_precision")
    return "?" if value is None else f"{float(value):.3f}"


def _mark(settings: Settings) -> str:
    return str(processes.Mark(OWNER, settings.home.absolute()))


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
