"""Measurements kept as files: made one after the other, each in a process of its own, read back for README's table."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from fraud.bench import plots
from fraud.bench.report import PARTS, Part
from fraud.errors import ConfigError, DataError
from fraud.times import format_time

STOP_SECONDS = 60.0  # what a measurement may take to stop its servers

Say = Callable[[str], None]


class Measured(msgspec.Struct, frozen=True):
    """What a file holds.

    Attributes:
        command: what was typed, without --json.
        at: when it ended, UTC.
        seconds: how long it took.
        result: what the command printed.
    """

    command: str
    at: str
    seconds: float
    result: dict[str, Any]


Found = list[tuple[Part, Measured]]


def chosen(names: Sequence[str] | None) -> list[Part]:
    """Return the parts of these names, all without any.

    Raises:
        ConfigError: there is no such part.
    """
    known = {part.name: part for part in PARTS}
    for name in names or ():
        if name not in known:
            raise ConfigError(f"--only {name} is no part; they are {', '.join(known)}")
    return [part for part in PARTS if not names or part.name in names]


def measure(parts: Sequence[Part], folder: Path, runs: int, say: Say) -> list[str]:
    """Run each part's command and keep its result; return the names of those that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for number, part in enumerate(parts, 1):
        if part.needs is not None and find_spec(part.needs) is None:
            say(f"{part.name}: left out, {part.needs} isn't installed; `make peers` does it")
            continue
        words = ["bench", *part.command(runs)]
        say(f"{number} of {len(parts)}: fraud-detect {' '.join(words)}")
        began = time.monotonic()
        code, printed = _run([sys.executable, "-m", "fraud.cli", *words, "--json"])
        if code != 0:
            failed.append(part.name)
            continue
        seconds = round(time.monotonic() - began, 1)
        at = format_time(time.time_ns() // 1_000_000)
        kept = Measured(f"fraud-detect {' '.join(words)}", at, seconds, msgspec.json.decode(printed))
        _path(folder, part).write_bytes(msgspec.json.format(msgspec.json.encode(kept)) + b"\n")
    return failed


def read(parts: Sequence[Part], folder: Path) -> Found:
    """Return what was kept of the parts, in their order; one that wasn't measured is left out.

    Raises:
        DataError: a file isn't one that `measure` wrote.
    """
    found = []
    for part in parts:
        path = _path(folder, part)
        if path.exists():
            try:
                found.append((part, msgspec.json.decode(path.read_bytes(), type=Measured)))
            except msgspec.DecodeError as exc:
                raise DataError(f"{path} isn't a result of `bench all`: {exc}; remove it, or measure again") from exc
    return found


def draw(found: Found, folder: Path) -> list[Path]:
    """Draw every result of which there is a picture; return the files."""
    return [
        path
        for part, each in found
        if part.words[0] in plots.DRAWN and not part.is_variant
        for path in plots.draw(plots.charts(part.words[0], each.result), folder)
    ]


def markdown(found: Found) -> Iterator[str]:
    """Yield the lines of README's table."""
    yield "| what | figure | command |"
    yield "|---|---|---|"
    for part, each in found:
        for number, row in enumerate(part.rows(each.result)):
            yield row.markdown(each.command if number == 0 else None)


def _path(folder: Path, part: Part) -> Path:
    return folder / f"{part.name}.json"


def _run(command: Sequence[str]) -> tuple[int, bytes]:
    """Run a command, its progress on our stderr; return its exit code and what it printed."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)  # noqa: S603
    try:
        printed, _ = process.communicate()
    except BaseException:
        process.terminate()  # it stops the servers that it started
        process.wait(STOP_SECONDS)
        raise
    return process.returncode, printed
