"""Small worlds of payments and verdicts for the label clock, and what must be made of them, told the slow way."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import strategies as st

from fraud.profiles import QUARTER_MS

START = datetime(2026, 3, 1, tzinfo=UTC)
QUARTER = timedelta(milliseconds=QUARTER_MS)
TIME = pl.Datetime("us", "UTC")
PLACE: dict[str, Any] = {
    "topic_id": pl.String,
    "partition": pl.Int32,
    "offset": pl.Int64,
    "broker_time": TIME,
    "user_id": pl.String,
    "transaction_id": pl.String,
}


@dataclass(frozen=True)
class Payment:
    """An accepted transaction; `number` is also its offset."""

    number: int
    quarter: int
    merchant: int


@dataclass(frozen=True)
class Verdict:
    """A label about payment `about`, which may never come; given in quarter `labelled`."""

    about: int
    labelled: int
    fraud: bool


Record = Payment | Verdict


def accepted(payments: list[Payment], broker_quarter: int = 0) -> pl.DataFrame:
    """Return payments as the clock takes them."""
    at = START + broker_quarter * QUARTER
    rows = [
        (
            "t",
            0,
            one.number,
            at,
            f"u{one.number % 3}",
            f"x{one.number}",
            f"m{one.merchant}",
            START + one.quarter * QUARTER,
        )
        for one in payments
    ]
    return pl.DataFrame(rows, schema={**PLACE, "merchant_id": pl.String, "timestamp": TIME}, orient="row")


def labels(verdicts: list[tuple[int, Verdict]], broker_quarter: int = 0) -> pl.DataFrame:
    """Return verdicts at their offsets as the clock takes them; their merchant is nobody's business."""
    at = START + broker_quarter * QUARTER
    rows = [
        ("l", 0, offset, at, f"u{one.about % 3}", f"x{one.about}", one.fraud, START + one.labelled * QUARTER)
        for offset, one in verdicts
    ]
    return pl.DataFrame(rows, schema={**PLACE, "is_fraud": pl.Boolean, "labelled_at": TIME}, orient="row")


@st.composite
def batches(draw: st.DrawFn) -> list[list[Record]]:
    """Draw payments and verdicts in any order, repeats and contradictions among them, cut into batches."""
    count = draw(st.integers(0, 12))
    payments: list[Record] = [
        Payment(number, draw(st.integers(0, 40)), draw(st.integers(0, 2))) for number in range(count)
    ]
    verdicts: list[Record] = draw(
        st.lists(st.builds(Verdict, st.integers(0, 13), st.integers(0, 60), st.booleans()), max_size=25)
    )
    repeats: list[Record] = draw(st.lists(st.sampled_from(payments), max_size=4)) if payments else []
    records = draw(st.permutations(payments + verdicts + repeats))
    cuts = sorted(draw(st.lists(st.integers(0, len(records)), max_size=6)))
    return [records[a:b] for a, b in zip([0, *cuts], [*cuts, len(records)], strict=True)]


def told(cut: list[list[Record]]) -> list[tuple[str, int, int, int, int]]:
    """Return each change (merchant, quarter, effective, transactions, frauds), one record after another."""
    first = int(START.timestamp() * 1000) // QUARTER_MS
    known: dict[int, Payment] = {}
    said: dict[int, list[Verdict]] = {}
    counted: dict[int, bool] = {}
    through: int | None = None
    changes = []

    def change(about: Payment, own: int, before: int | None, transactions: int, frauds: int) -> None:
        effective = (own if before is None else max(own, before)) + 2
        changes.append((f"m{about.merchant}", first + about.quarter, first + effective, transactions, frauds))

    def weigh(about: int, before: int | None, verdicts: list[Verdict]) -> None:
        for one in verdicts:
            said.setdefault(about, []).append(one)
            winner = max(enumerate(said[about]), key=lambda each: (each[1].labelled, each[0]))[1]
            if winner.fraud != counted.get(about, False):
                change(known[about], one.labelled, before, 0, winner.fraud - counted.get(about, False))
                counted[about] = winner.fraud

    waiting: dict[int, list[Verdict]] = {}
    for batch in cut:
        before = through
        for one in batch:
            if isinstance(one, Payment) and one.number not in known:
                known[one.number] = one
                change(one, one.quarter, before, 1, 0)
                through = one.quarter if through is None else max(through, one.quarter)
        for about in [one.number for one in batch if isinstance(one, Payment)]:
            weigh(about, before, waiting.pop(about, []))
        for one in batch:
            if isinstance(one, Verdict):
                if one.about in known:
                    weigh(one.about, before, [one])
                else:
                    waiting.setdefault(one.about, []).append(one)
    return sorted(changes)
