"""Whether the lag grows, and where a micro-batch's time goes."""

from typing import Any

from fraud.bench.beside import phases, slope


def test_a_lag_that_only_swings_has_no_slope() -> None:
    assert slope([(float(second), 100 + 7 * (second % 2)) for second in range(60)]) == 0.0
    assert slope([(10.0, 4)]) == slope([]) == 0.0


def test_a_lag_that_grows_is_told_by_its_seconds() -> None:
    assert slope([(100.0 + second, 50 * second) for second in range(30)]) == 50.0


def test_batches_are_counted_once_and_one_without_a_duration_not() -> None:
    one = {"batch": 1, "batch_rows": 10, "batch_ms": 100, "phases_ms": {"addBatch": 90}}
    two = {"batch": 2, "batch_rows": 30, "batch_ms": 200, "phases_ms": {"addBatch": 150, "getBatch": 2}}
    none: dict[str, Any] = {"batch": None, "batch_rows": None, "batch_ms": None, "phases_ms": {}}
    assert phases([none, one, one, one, two]) == {
        "batch_rows": 20.0, "batch_ms": 150.0, "batch_addBatch_ms": 120.0, "batch_getBatch_ms": 2.0,
    }  # fmt: skip
    assert phases([none]) == {}
