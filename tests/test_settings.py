"""Settings survive the way through a child's environment."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from fraud.settings import Settings


def test_a_child_gets_every_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = Settings.load(
        {},
        home=Path("here"),
        s3_access_key=SecretStr("key"),
        s3_secret_key=SecretStr("secret"),
        max_age_days=None,
        store_url="lmdb:store",
        spark_ui_port=0,
        store_durability="disk",
    )
    variables = given.environment()
    assert set(variables) == {f"FRAUD_{name.upper()}" for name in Settings.model_fields}
    monkeypatch.chdir("/")
    got = Settings.load(variables)
    changed = {"home": tmp_path / "here", "store_url": f"lmdb:{tmp_path}/store"}
    assert got == given.model_copy(update=changed)
    assert got.s3_secret_key is not None
    assert got.s3_secret_key.get_secret_value() == "secret"


def test_defaults_stay_defaults() -> None:
    given = Settings.load({})
    assert Settings.load(given.environment()) == given.model_copy(update={"home": given.home.absolute()})
