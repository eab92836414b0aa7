"""Starting programs: ports looked at, each started when those it needs are ready, each waited for."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fraud.errors import ServiceError, StateError
from fraud.stack import ports, processes
from fraud.stack.program import Program
from fraud.stack.supervisord import Supervisord

Say = Callable[[str], None]
POLL_SECONDS = 0.2
# What supervisord calls a program that has ended, or ended at once and is tried again.
ENDED = frozenset({"BACKOFF", "EXITED", "FATAL", "STOPPED", "UNKNOWN"})
LAST_LINES = 5


def require_free(programs: Iterable[Program]) -> None:
    """Raise StateError, naming port, holder and setting, unless every port of the programs is free."""
    taken: dict[str, list[tuple[str, str]]] = {}
    for program in programs:
        for port, setting in program.ports:
            if not ports.is_free(port):
                taken.setdefault(_holder(port), []).append((f"{port} of {program.name}", setting))
    if taken:
        lines = [
            f"port {', '.join(port for port, _ in found)} {'is' if len(found) == 1 else 'are'} taken by {who}; "
            f"stop that, or choose another in {', '.join(setting for _, setting in found)}"
            for who, found in taken.items()
        ]
        raise StateError("\n       ".join(lines))


def _holder(port: int) -> str:
    process = ports.holder(port)
    if process is None:
        return "a process of another user"
    mark = processes.Mark.of(process)
    if mark is None:
        return processes.describe(process)
    how = "" if mark.owner == "demo" else f" (`FRAUD_HOME={mark.home} fraud-detect down` stops it)"
    return f"`fraud-detect {mark.owner}` in {mark.home}{how}"


class Starting:
    """One start of some programs; those of `running` are left alone, but made complete (topics, buckets)."""

    def __init__(self, daemon: Supervisord, programs: Sequence[Program], running: Iterable[str], say: Say) -> None:
        self._daemon, self._say, self._running = daemon, say, frozenset(running)
        self._pending = list(programs)
        self._ready: set[str] = set()
        self._begun: dict[str, tuple[Program, float]] = {}

    def run(self) -> None:
        """Return when every program is ready.

        Raises:
            ServiceError: one ended or wasn't ready in time; its last words are in the message.
        """
        while self._pending or self._begun:
            for program in [each for each in self._pending if self._ready.issuperset(each.needs)]:
                self._begin(program)
            states = self._daemon.states()
            for name in list(self._begun):
                self._look(name, states[name]["statename"])
            if self._begun:
                time.sleep(POLL_SECONDS)

    def _begin(self, program: Program) -> None:
        self._begun[program.name] = program, time.monotonic()
        if program.name not in self._running:
            self._say(f"starting {program.name}{program.notice and ': '}{program.notice}")
            program.prepare()
            self._daemon.start(program.name)
        self._pending.remove(program)

    def _look(self, name: str, state: str) -> None:
        program, begun = self._begun[name]
        seconds = time.monotonic() - begun
        if state in ENDED:
            raise ServiceError(f"{name} ended while it was started. {self._last_words(name)}")
        if program.ready():
            for note in program.after():
                self._say(f"note: {note}")
            if name not in self._running:
                self._say(f"{name} is ready after {seconds:.1f} s: {program.address}")
            self._ready.add(name)
            del self._begun[name]
        elif seconds > program.ready_seconds:
            raise ServiceError(f"{name} isn't ready after {seconds:.0f} s. {self._last_words(name)}")

    def _last_words(self, name: str) -> str:
        log = self._daemon.logs / f"{name}.log"
        return last_words(log)


def last_words(log: Path) -> str:
    """Return the end of a log as a sentence or two."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.exists() else []
    if not lines:
        return f"Its log {log} says nothing"
    told = "\n       ".join(line[:300] for line in lines[-LAST_LINES:])
    return f"The end of its log {log}:\n       {told}"
