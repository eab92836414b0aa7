"""The shipped Compose file and Dockerfiles, read as they are: nothing is started."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from fraud.settings import PREFIX
from tests.servers import REPOSITORY

FILE = REPOSITORY / "docker-compose.yml"
DOCKERFILES = tuple(REPOSITORY / path for path in ("Dockerfile", "minio/Dockerfile", "mlflow/Dockerfile"))
# The specification's own, of compose-go 2.9.1 (Apache-2.0): https://github.com/compose-spec/compose-go
SCHEMA = Path(__file__).with_name("compose-spec.json")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)(:?[-?])([^}]*)\}")
_MEMORY = {"M": 1, "G": 1024}


@cache
def compose() -> dict[str, Any]:
    """Return the file, its anchors and merges resolved, its variables as they stand."""
    found: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return found


def services(*profiles: str) -> dict[str, dict[str, Any]]:
    """Return the services that start with these profiles."""
    return {
        name: service
        for name, service in compose()["services"].items()
        if not service.get("profiles") or set(service["profiles"]) & set(profiles)
    }


def defaults(text: str) -> str:
    """Return a text with its variables' defaults, the required ones as their names.

    >>> defaults("${HOST:-127.0.0.1}:${PORT?is empty}")
    '127.0.0.1:PORT'
    """
    return _VARIABLE.sub(lambda found: found[3] if "-" in found[2] else found[1], text)


def megabytes(service: dict[str, Any]) -> int:
    """Return a service's limit of memory."""
    limit = defaults(service["deploy"]["resources"]["limits"]["memory"])
    return int(limit[:-1]) * _MEMORY[limit[-1]]


def environment(name: str) -> dict[str, str]:
    """Return a service's variables, with defaults."""
    return {key: defaults(str(value)) for key, value in compose()["services"][name].get("environment", {}).items()}


def settings_of(name: str) -> dict[str, str]:
    """Return those of a service's variables that are the platform's settings."""
    return {key: value for key, value in environment(name).items() if key.startswith(PREFIX)}
