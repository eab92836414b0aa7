"""What Airflow keeps secret: the password of its one user, and the keys its parts know each other by.

Made once, kept under data/ for the owner alone. Airflow would make its own, but each part another one when
they start together.
"""

import base64
import json
import os
import secrets
from pathlib import Path

from fraud.settings import Settings

USER = "admin"
# Without letters and digits that look alike: it is read off a screen and typed.
_ALPHABET = "abcdefghkmnpqrstuvwxyzABCDEFGHKMNPQRSTUVWXYZ23456789"
_PASSWORD_LENGTH = 16


def folder(settings: Settings) -> Path:
    """Return AIRFLOW_HOME: the database, the generated configuration, the keys."""
    return settings.data.absolute() / "airflow"


def password_file(settings: Settings) -> Path:
    """Return where the password is, in the form that Airflow's SimpleAuthManager reads."""
    return folder(settings) / "passwords.json"


def password(settings: Settings) -> str | None:
    """Return the password of `admin`: the settings', else the embedded server's; None before its first start."""
    if settings.airflow_password is not None:
        return settings.airflow_password.get_secret_value()
    try:
        return str(json.loads(password_file(settings).read_text())[USER])
    except FileNotFoundError:
        return None


def keys(settings: Settings) -> dict[str, str]:
    """Return the keys as the variables that Airflow reads; make them, and the password, where there are none."""
    given = settings.airflow_password
    if given is not None:
        password_file(settings).unlink(missing_ok=True)
    made = "".join(secrets.choice(_ALPHABET) for _ in range(_PASSWORD_LENGTH))
    _made_once(password_file(settings), {USER: made if given is None else given.get_secret_value()})
    return _made_once(
        folder(settings) / "keys.json",
        {
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
            "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
        },
    )


def _made_once(path: Path, values: dict[str, str]) -> dict[str, str]:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
            json.dump(values, handle)
        fresh.replace(path)
    found: dict[str, str] = json.loads(path.read_text())
    return found
