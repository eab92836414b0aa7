"""The demo's stream: a few transactions first, a day until retraining is asked for, and what happens meanwhile."""

import threading
import time
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from fraud.demo.plan import Plan
from fraud.parity.topics import wait_for_answers
from fraud.settings import Settings

ANSWER_SECONDS = 90.0
OPENING = 200  # transactions sent before the steady rate


@dataclass
class Traffic:
    """Rows that are sent one after the other, each once, with the labels that become known meanwhile.

    Attributes:
        rows: in arrival order.
        labels: in the order in which they became known; those that nobody knows by the end are never sent.
        sent: messages that Kafka has acknowledged, mistakes among them, without the labels.
        told: labels.
    """

    settings: Settings
    plan: Plan
    rows: pl.DataFrame
    labels: pl.DataFrame
    sent: int = 0
    told: int = 0
    _row: int = field(default=0, init=False)

    def open(self) -> None:
        """Send a few and wait until the job has answered them: a JVM's first micro-batch takes seconds."""
        self._send(min(len(self.rows) // 4, OPENING), gently=True)
        wait_for_answers(self.settings.kafka_bootstrap, ANSWER_SECONDS)

    def until(self, moment: datetime) -> None:
        """Send at the steady rate what arrived before the first row of `moment` or later."""
        later = (self.rows["timestamp"] >= moment).arg_true()
        self._send((int(later[0]) if len(later) else len(self.rows)) - self._row)

    def while_waiting(self, done: threading.Event) -> None:
        """Send at the steady rate until `done`, but keep back what is for the second version; then wait for it."""
        kept = min((len(self.rows) - self._row) // 2, round(self.plan.rate * self.plan.last_s))
        self._send(len(self.rows) - kept - self._row, stop=done)
        done.wait()

    def rest(self) -> None:
        """Send at the steady rate as many as the plan has for the second version."""
        self._send(min(len(self.rows) - self._row, round(self.plan.rate * self.plan.last_s)))

    def _send(self, count: int, *, gently: bool = False, stop: threading.Event | None = None) -> None:
        from producer.replay import replay

        if count <= 0:
            return
        rows = self.rows.slice(self._row, count)
        known = self.labels.slice(self.told).filter(pl.col("labelled_at") <= rows["timestamp"].max())
        done = replay(
            self.settings,
            rows,
            known,
            clock=now_ms,
            rate=None if gently else self.plan.rate,
            bad=0.0 if gently else self.plan.bad,
            seed=self.plan.seed + self._row,
            stop=stop,
        )
        self._row += done.valid
        self.sent += done.total
        self.told += done.labels


def now_ms() -> int:
    """Return the present, ms since the epoch."""
    return time.time_ns() // 1_000_000
