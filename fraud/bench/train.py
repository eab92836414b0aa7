"""How long retraining takes, and where the time goes: simulated transactions in, a judged model out.

What is measured is what `train` does between reading tables and registering: features by the offline builder,
search, fit, calibration, thresholds, judgement, card and plots. The simulation isn't counted.
"""

import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil

from fraud.bench.processes import load, machine

USERS_PER_ROW = 1 / 120  # two transactions a day over sixty days
DAYS = 60
START = datetime(2026, 1, 1, tzinfo=UTC)
MIB = 1024  # kilobytes, as getrusage counts on Linux

Say = Callable[[str], None]


@dataclass
class Phases:
    """Seconds per phase, told apart by the first word of what a training says."""

    say: Say
    seconds: dict[str, float] = field(default_factory=dict)
    _now: str = "features"
    _since: float = field(default_factory=time.monotonic)

    NAMES = {"searching": "search", "comparing": "finals", "fitting": "fit", "calibrating,": "calibrate and judge"}  # noqa: RUF012

    def __call__(self, words: str) -> None:
        """Pass a message on, and begin a phase where it names one."""
        self.say(words)
        name = self.NAMES.get(words.split(" ", 1)[0])
        if name is not None:
            self.begin(name)

    def begin(self, name: str) -> None:
        """End the phase before and begin another."""
        now = time.monotonic()
        self.seconds[self._now] = round(self.seconds.get(self._now, 0.0) + now - self._since, 2)
        self._now, self._since = name, now


def run(rows: int, candidates: int, *, seed: int, threads: int, say: Say) -> dict[str, Any]:
    """Simulate `rows` transactions, train on them once, and return what it cost.

    Returns:
        {rows, frauds, candidates, seconds, cpu_seconds, peak_rss_mb, phases, average_precision, load, machine};
        `rows` are those old enough to be trained on, `transactions` all of them.
    """
    from fraud.training import labelled_rows, train
    from fraud.training.card import model_card
    from fraud.training.plots import plots
    from producer.simulate import Config, generate

    users = max(round(rows * USERS_PER_ROW), 50)
    say(f"simulating about {rows:,} transactions of {users:,} users over {DAYS} days (not counted)")
    simulation = generate(Config(start=START, days=DAYS, seed=seed, users=users, merchants=max(users // 8, 100)))
    transactions, labels = simulation.transactions, simulation.labels
    before = psutil.Process().memory_info().rss
    busy, cpu, began = load(), _cpu(), time.monotonic()
    phases = Phases(say)
    say(f"building features of {len(transactions):,} transactions")
    known = labelled_rows(transactions, labels, START + timedelta(days=DAYS))
    trained = train(known, seed=seed, threads=threads, candidates=candidates, say=phases)
    phases.begin("card and plots")
    model_card(trained.report(), {"seed": seed})
    plots(trained)
    phases.begin("end")
    return {
        "transactions": len(transactions),
        "rows": len(known.times),
        "frauds": int(known.frauds.sum()),
        "candidates": candidates,
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(_cpu() - cpu, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB),
        "rss_before_mb": round(before / MIB / 1024),
        "phases": phases.seconds,
        "average_precision": trained.judgement.values["average_precision"],
        "best": trained.bundle.params,
        "load": busy,
        "machine": machine(),
    }


def _cpu() -> float:
    """Return the process's CPU seconds, its ended children's among them."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system
