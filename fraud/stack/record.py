"""What a stack writes down about itself, for the commands that come later: `stack/record.json`."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from fraud.errors import StateError
from fraud.settings import ADDRESSES, PREFIX, Settings, without_secrets
from fraud.stack.program import Program

FILE = "record.json"


@dataclass(frozen=True)
class Entry:
    """A program as it was started."""

    name: str
    address: str
    ui: str | None
    ports: list[int]
    needs: list[str]
    log: str

    @classmethod
    def of(cls, program: Program, logs: Path) -> "Entry":
        """Return what is worth writing down of a program."""
        numbers = [port for port, _ in program.ports]
        log = str(logs / f"{program.name}.log")
        return cls(program.name, program.address, program.ui, numbers, list(program.needs), log)


@dataclass(frozen=True)
class Record:
    """Who started the stack, with which settings (but secrets), where its sockets are, and what it is."""

    owner: str
    sockets: Path
    settings: dict[str, str]
    programs: list[Entry]


def write(folder: Path, record: Record) -> None:
    """Replace the record; its owner alone reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"{FILE}.{os.getpid()}"
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        json.dump(asdict(record), handle, default=str)
    fresh.replace(folder / FILE)


def read(folder: Path) -> Record | None:
    """Return the record, None if there is none.

    Raises:
        StateError: another release wrote it.
    """
    try:
        raw: dict[str, Any] = json.loads((folder / FILE).read_text())
    except FileNotFoundError:
        return None
    try:
        programs = [Entry(**each) for each in raw["programs"]]
        return Record(raw["owner"], Path(raw["sockets"]), raw["settings"], programs)
    except (KeyError, TypeError) as exc:
        raise StateError(f"{folder / FILE} was written by another release: run that one's `fraud-detect down`") from exc


def comparable(settings: Settings) -> dict[str, str]:
    """Return the settings that two starts are compared by: all but the secrets.

    Of an address with a password there is what may be shown, and eight digits of its hash: enough to see
    that it changed, too few to try passwords by.
    """
    secret = {name for name in type(settings).model_fields if isinstance(getattr(settings, name), SecretStr)}
    names = {f"{PREFIX}{name.upper()}" for name in secret}
    addresses = {f"{PREFIX}{name.upper()}" for name in ADDRESSES}
    return {
        name: _recorded(value) if name in addresses else value
        for name, value in settings.environment().items()
        if name not in names
    }


def _recorded(address: str) -> str:
    shown = without_secrets(address)
    return shown if shown == address else f"{shown} (#{hashlib.sha256(address.encode()).hexdigest()[:8]})"


def require_same(record: Record, settings: Settings, home: Path) -> None:
    """Raise StateError, naming what differs, unless the stack runs with these settings."""
    now = comparable(settings)
    differ = sorted(name for name in now | record.settings if now.get(name) != record.settings.get(name))
    if differ:
        told = ", ".join(f"{name}={record.settings.get(name, '')} (now {now.get(name, '')})" for name in differ)
        raise StateError(
            f"the servers of {home} run with other settings: {told}. "
            "Stop them first with `fraud-detect down`; the data stay"
        )
