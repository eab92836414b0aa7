"""The label clock against a slow telling of the same rules, and against the offline builder's totals."""

from datetime import timedelta

import polars as pl
from hypothesis import given, settings

from fraud.archive.changes import by_merchant
from fraud.archive.clock import Clock, Step
from fraud.builder import bulk_changes
from fraud.profiles import QUARTER_MS
from tests.archive.worlds import START, Payment, Record, Verdict, accepted, batches, labels, told

FOREVER = 10**15
TOTALS = ["merchant_id", "quarter"]


def run(cut: list[list[Record]], parking_ms: int = FOREVER) -> list[Step]:
    """Let the clock take batches; verdicts have offsets in their order."""
    clock, offset, steps = Clock(parking_ms), 0, []
    for batch in cut:
        payments = [one for one in batch if isinstance(one, Payment)]
        verdicts = [one for one in batch if isinstance(one, Verdict)]
        numbered = list(enumerate(verdicts, offset))
        offset += len(verdicts)
        steps.append(clock.step(accepted(payments), labels(numbered), now=0))
    return steps


def rows(steps: list[Step]) -> pl.DataFrame:
    return pl.concat([step.changes for step in steps])


def totals(changes: pl.DataFrame) -> list[tuple[object, ...]]:
    summed = changes.group_by(TOTALS).agg(pl.col("transactions").sum(), pl.col("frauds").sum())
    return sorted(summed.rows())


@settings(max_examples=200)
@given(batches())
def test_every_change_is_what_the_rules_say(cut: list[list[Record]]) -> None:
    said = rows(run(cut)).select("merchant_id", "quarter", "effective", "transactions", "frauds")
    assert sorted(said.rows()) == told(cut)


@settings(max_examples=200)
@given(batches())
def test_totals_are_the_offline_builders_whatever_the_order(cut: list[list[Record]]) -> None:
    records = [one for batch in cut for one in batch]
    payments = [one for one in records if isinstance(one, Payment)]
    verdicts = list(enumerate(one for one in records if isinstance(one, Verdict)))
    bulk = bulk_changes(accepted(payments), labels(verdicts))
    assert totals(rows(run(cut))) == totals(bulk)
    packed = by_merchant(rows(run(cut)))
    assert list(packed) == sorted(packed)
    assert sum(int(each["transactions"].sum()) for each in packed.values()) == len({one.number for one in payments})


def at(quarter: int) -> int:
    return int(START.timestamp() * 1000) + quarter * QUARTER_MS


def test_a_label_counts_for_the_payments_merchant_and_quarter_once() -> None:
    (first, second, third) = run(
        [
            [Payment(0, quarter=5, merchant=1)],
            [Verdict(0, labelled=9, fraud=True), Verdict(0, labelled=9, fraud=True)],
            [Verdict(0, labelled=8, fraud=False), Verdict(0, labelled=35_000, fraud=False)],  # late, and a year later
        ]
    )
    base = at(0) // QUARTER_MS
    chosen = ["merchant_id", "quarter", "effective", "transactions", "frauds", "offset"]
    assert first.changes.select(chosen).rows() == [("m1", base + 5, base + 7, 1, 0, 0)]
    assert second.changes.select(chosen).rows() == [("m1", base + 5, base + 11, 0, 1, 0)]
    assert third.changes.select(chosen).rows() == [("m1", base + 5, base + 35_002, 0, -1, 3)]
    assert third.through == base + 5


def test_a_label_waits_for_its_payment_and_not_for_ever() -> None:
    parking = 4 * QUARTER_MS
    clock = Clock(parking)
    nobody, verdicts = accepted([]), [(0, Verdict(0, 3, True)), (1, Verdict(1, 3, True))]
    assert clock.step(nobody, labels(verdicts), now=at(0)).expired == []
    assert clock.parked == 2
    known = clock.step(accepted([Payment(1, 2, 0)]), labels([]), now=at(4))
    assert known.changes["frauds"].to_list() == [0, 1]
    assert (known.expired, clock.parked) == ([], 1)
    late = clock.step(nobody, labels([]), now=at(4) + 1)
    assert [(one.transaction_id, one.offset) for one in late.expired] == [("x0", 0)]
    assert clock.step(accepted([Payment(0, 2, 0)]), labels([]), now=at(5)).changes["frauds"].to_list() == [0]


def test_a_store_ahead_of_the_lake_moves_what_becomes_effective() -> None:
    clock = Clock(FOREVER)
    step = clock.step(accepted([Payment(0, 5, 0)]), labels([]), now=0, through=at(9) // QUARTER_MS)
    assert step.changes["effective"].to_list() == [at(11) // QUARTER_MS]


def test_the_broker_time_of_a_change_is_its_records() -> None:
    clock = Clock(FOREVER)
    clock.step(accepted([Payment(0, 5, 0)], broker_quarter=2), labels([]), now=0)
    changes = clock.step(accepted([]), labels([(4, Verdict(0, 9, True))], broker_quarter=3), now=0).changes
    assert changes["broker_time"].to_list() == [START + timedelta(minutes=45)]
    assert changes["cause"].to_list() == ["transaction_labels"]
