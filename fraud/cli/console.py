"""What every command shares: settings from the environment, JSON on stdout, people's words on stderr."""

import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

SEEDS = 2**31 - 1  # the largest seed that every generator takes

if TYPE_CHECKING:
    from rich.console import Console

    from fraud.settings import Settings


def settings(**overrides: object) -> "Settings":
    """Read the settings; the only place of the command line that reads the environment."""
    from fraud.settings import Settings

    return Settings.load(os.environ, **overrides)


def stderr() -> "Console":
    """Return the console for people; stdout is for results."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True)


def say(message: str) -> None:
    """Print one line for people."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201


def quiet_kafka() -> None:
    """Keep the client's warnings and tracebacks away while it tries again; what fails is said in the end."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


def emit(result: Any) -> None:
    """Print a result as one line of JSON on stdout."""
    print(json.dumps(result, default=str, separators=(",", ":")), flush=True)  # noqa: T201
