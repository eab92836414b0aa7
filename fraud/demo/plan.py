"""How much the demo simulates and streams, and when: the numbers were found by trying (tests/demo/test_pattern.py)."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from producer.scenarios import SCENARIOS, Scenario

PATTERN = "fake_shops"
USERS = 8_000


@dataclass(frozen=True)
class Plan:
    """How much is simulated and how fast it is streamed; a user makes two transactions a day.

    The pattern begins after a third of the time: what a model is fitted to are the oldest 55 % of the days whose
    labels are known, and there it must have seen some of it.
    """

    days: int = 84
    streamed_days: int = 6
    users: int = USERS
    merchants: int = 1_100
    rate: float = 300.0
    bad: float = 0.001
    seed: int = 1
    pattern_day: int = 28  # version 1 is trained on this day, and hasn't seen it
    pattern_share: float = 0.004  # frauds of the pattern per honest transaction
    first_part_days: float = 1.0  # streamed before retraining is asked for, with the labels of that time
    last_s: float = 60.0  # streamed with the second version
    candidates: int = 4  # of each model's search

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """Every way to defraud, the new pattern from its day on.

        A small population sees more of it: a model can't learn from a handful of frauds.
        """
        share = self.pattern_share * min(max(1.0, USERS / self.users), 3.0)
        return tuple(
            replace(each, share=share, start_day=float(self.pattern_day)) if each.name == PATTERN else each
            for each in SCENARIOS
        )


@dataclass(frozen=True)
class Times:
    """When things happen, UTC.

    Attributes:
        start, end: of the simulation.
        first: version 1 knows what was known then; the new pattern begins.
        begin: the stream holds [begin, end).
        second: version 2 knows what was known then; a moment within the stream.
    """

    start: datetime
    first: datetime
    begin: datetime
    second: datetime
    end: datetime


def times(plan: Plan, now: datetime) -> Times:
    """Place the simulation so that it ends this morning, in the rhythm of days.

    >>> from datetime import UTC
    >>> times(Plan(days=3, streamed_days=1), datetime(2026, 3, 5, 10, tzinfo=UTC)).begin.isoformat()
    '2026-03-04T00:00:00+00:00'
    """
    end = now.replace(hour=0, minute=0, second=0, microsecond=0)
    start, begin = end - timedelta(days=plan.days), end - timedelta(days=plan.streamed_days)
    return Times(
        start=start,
        first=start + timedelta(days=plan.pattern_day),
        begin=begin,
        second=begin + timedelta(days=plan.first_part_days),
        end=end,
    )
