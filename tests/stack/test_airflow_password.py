"""Whose password Airflow's user has: the settings', else one that is made once and kept."""

import json
from pathlib import Path

from pydantic import SecretStr

from fraud.settings import Settings
from fraud.stack.airflow.keys import USER, keys, password, password_file


def kept(settings: Settings) -> str:
    return str(json.loads(password_file(settings).read_text())[USER])


def test_it_is_made_once_and_stays(tmp_path: Path) -> None:
    settings = Settings.load({}, home=tmp_path)
    assert password(settings) is None
    first = keys(settings)
    made = password(settings)
    assert made == kept(settings)
    assert keys(settings) == first
    assert password(settings) == made


def test_the_settings_come_first_and_the_embedded_server_takes_them_over(tmp_path: Path) -> None:
    keys(Settings.load({}, home=tmp_path))
    given = Settings.load({}, home=tmp_path, airflow_password=SecretStr("given"))
    assert password(given) == "given"
    keys(given)
    assert kept(given) == "given"
    assert password_file(given).stat().st_mode & 0o777 == 0o600
