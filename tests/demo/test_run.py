"""When the demo's past ends, which home it has, and what makes it fail."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fraud.cli.demo import failures, unexpected
from fraud.demo.plan import PATTERN, Plan, times
from fraud.demo.run import MAX_AGE_DAYS, prepare
from fraud.settings import Settings


def test_no_streamed_row_is_too_old_whatever_the_hour() -> None:
    plan = Plan()
    for hour in (0, 12, 23):
        now = datetime(2026, 3, 5, hour, 59, tzinfo=UTC)
        when = times(plan, now)
        assert when.end <= now
        assert now - when.begin < timedelta(days=MAX_AGE_DAYS) - timedelta(minutes=40)


def test_version_1_cant_know_the_pattern_and_version_2_is_fitted_to_days_of_it() -> None:
    plan = Plan()
    when = times(plan, datetime(2026, 3, 5, 12, tzinfo=UTC))
    (pattern,) = (each for each in plan.scenarios if each.name == PATTERN)
    assert when.first == when.start + timedelta(days=pattern.start_day)
    assert when.begin < when.second < when.end
    fitted = (when.second - timedelta(days=7) - when.start) * 0.55
    assert fitted - timedelta(days=pattern.start_day) > timedelta(days=7)
    assert {each.start_day for each in plan.scenarios if each.name != PATTERN} == {0.0}


def test_a_demo_begins_empty_but_for_what_was_fetched(tmp_path: Path) -> None:
    settings = Settings.load(
        {"FRAUD_STORE_URL": "lmdb:/production", "FRAUD_MAX_AGE_DAYS": "1", "FRAUD_LAKE_URI": "/somewhere/lake"},
        home=tmp_path / "home",
    )
    (settings.cache / "jars").mkdir(parents=True)
    old = settings.home / "demo" / "data" / "store"
    old.mkdir(parents=True)
    own = prepare(settings)
    assert (own.store_url, own.lake_uri, own.max_age_days) == ("lmdb:", "s3://lake", 8.0)  # never the user's own
    assert own.home == (settings.home / "demo").absolute()
    assert not old.exists()
    assert (own.cache / "jars").is_dir()
    assert settings.cache.is_dir()


GOOD: dict[str, Any] = {
    "missing": 0,
    "dag_run_state": "success",
    "model_versions": ["1", "2"],
    "swap_seconds": 1.2,
    "recall_new_pattern_before": 0.0,
    "recall_new_pattern_after": 0.9,
}


def test_a_demo_that_went_well_has_nothing_to_say() -> None:
    assert failures(GOOD) == unexpected(GOOD) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"missing": 3}, "3 messages have no answer"),
        ({"dag_run_state": "failed"}, "ended as failed"),
        ({"dag_run_state": None}, "ended as None"),
        ({"model_versions": ["1"], "swap_seconds": None}, "no second version"),
        ({"swap_seconds": 5.1}, "after 5.1 s"),
    ],
)
def test_what_didnt_work_fails_the_demo(changes: dict[str, Any], words: str) -> None:
    (failure,) = failures(GOOD | changes)
    assert words in failure


def test_another_recall_than_usual_is_said_and_fails_nothing() -> None:
    odd = GOOD | {"recall_new_pattern_before": 0.31, "recall_new_pattern_after": 0.65}
    assert failures(odd) == []
    assert len(unexpected(odd)) == 2
    assert unexpected(GOOD | {"recall_new_pattern_before": None, "recall_new_pattern_after": None}) == []
