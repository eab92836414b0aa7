"""When the demo's past ends, and which home it has."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from fraud.demo.run import Plan, prepare, times
from fraud.settings import Settings


def test_no_streamed_row_is_too_old_whatever_the_hour() -> None:
    plan = Plan()
    for hour in (0, 12, 23):
        now = datetime(2026, 3, 5, hour, 59, tzinfo=UTC)
        when = times(plan, now)
        assert when.end <= now
        assert now - when.begin < timedelta(days=7)  # FRAUD_MAX_AGE_DAYS' default
        assert when.begin - timedelta(days=plan.first_known_days) > when.start + timedelta(days=14)


def test_a_demo_begins_empty_but_for_what_was_fetched(tmp_path: Path) -> None:
    settings = Settings.load({"FRAUD_STORE_URL": "lmdb:/production", "FRAUD_MAX_AGE_DAYS": "1"}, home=tmp_path / "home")
    (settings.cache / "jars").mkdir(parents=True)
    old = settings.home / "demo" / "data" / "store"
    old.mkdir(parents=True)
    own = prepare(settings)
    assert (own.store_url, own.max_age_days) == ("lmdb:", 7.0)  # never the user's own
    assert own.home == (settings.home / "demo").absolute()
    assert not old.exists()
    assert (own.cache / "jars").is_dir()
    assert settings.cache.is_dir()
