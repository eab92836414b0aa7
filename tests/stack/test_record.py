"""What a stack writes down about itself: who may read it, and how settings with a password are compared."""

from pathlib import Path

import pytest

from fraud.errors import StateError
from fraud.settings import Settings
from fraud.stack import record
from fraud.stack.record import Record

SECRET = "hush-hush"
URL = f"redis://user:{SECRET}@127.0.0.1:6379/0"


def recorded(settings: Settings) -> Record:
    return Record("up", Path("sockets"), record.comparable(settings), [])


def test_the_record_is_its_owners_and_holds_no_password(tmp_path: Path) -> None:
    settings = Settings.load({}, store_url=URL, mlflow_uri=f"http://user:{SECRET}@127.0.0.1:5000")
    record.write(tmp_path, recorded(settings))
    file = tmp_path / record.FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert SECRET not in file.read_text()
    again = record.read(tmp_path)
    assert again is not None
    record.require_same(again, settings, tmp_path)


def test_another_password_is_another_setting_and_stays_unsaid(tmp_path: Path) -> None:
    known = recorded(Settings.load({}, store_url=URL))
    with pytest.raises(
        StateError, match=r"FRAUD_STORE_URL=redis://127\.0\.0\.1:6379/0 \(#[0-9a-f]{8}\) \(now"
    ) as caught:
        record.require_same(known, Settings.load({}, store_url=URL.replace(SECRET, "other-secret")), tmp_path)
    assert SECRET not in str(caught.value)
    assert "other-secret" not in str(caught.value)
