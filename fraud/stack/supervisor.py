"""A stack of servers in one home: started in the order of their needs, supervised, stopped without a rest.

`up` and `demo` use it alike. Whatever goes wrong while it starts, an impatient Ctrl-C included, ends what was
started; what a killed supervisord left behind is found by its pid files and its mark, and ended first.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fraud.errors import ServiceError, StateError
from fraud.settings import Settings
from fraud.stack import ports, processes, record
from fraud.stack.lock import alone
from fraud.stack.platform import platform
from fraud.stack.program import Program
from fraud.stack.record import Entry, Record
from fraud.stack.signals import uninterrupted
from fraud.stack.starting import ENDED, Say, Starting, require_free
from fraud.stack.supervisord import Supervisord

if TYPE_CHECKING:
    import psutil

Describe = Callable[[Settings, Path], Sequence[Program]]
POLL_SECONDS = 0.1
STOP_SECONDS = 60.0
# How long leftovers get between the request to end and the end.
LEFTOVER_SECONDS = 1.0
STATES = {"BACKOFF": "restarting", "FATAL": "failed", "EXITED": "failed", "STOPPING": "stopping"}


@dataclass(frozen=True)
class Status:
    """A program of a stack.

    Attributes:
        state: `running` (its ports answer), `starting`, `restarting`, `failed`, `stopping` or `stopped`.
        seconds: since its last start.
    """

    entry: Entry
    state: str
    pid: int | None
    seconds: int


class Stack:
    """The servers of one home."""

    def __init__(self, settings: Settings, owner: str = "up", describe: Describe = platform) -> None:
        """Know the stack; nothing is started.

        Args:
            owner: the command that starts it, for those who meet its processes: `up`, `demo`.
            describe: what to start; its second argument is a folder with a short path, for sockets.
        """
        self.home = settings.home.absolute()
        self._settings, self._describe, self._owner = settings, describe, owner
        self._folder, self._logs = self.home / "stack", settings.logs.absolute()
        # Whether what runs was started by this object.
        self.owns = False

    def start(self, say: Say) -> list[Status]:
        """Start what doesn't run yet and wait until everything serves; return what runs.

        Raises:
            StateError: a port is taken, the stack runs with other settings, or another command is at work.
            ServiceError: a program ended or isn't ready in time; what was started is ended.
        """
        with self._alone(0.0):
            known = self._running()
            if known is None:
                self._start_all(say)
            else:
                self._start_missing(known, say)
        return self.status()

    def stop(self, say: Say, seconds: float = STOP_SECONDS) -> bool:
        """Stop everything, grandchildren included, within about `seconds`; return whether anything ran.

        Signals don't interrupt it. What doesn't end by itself is killed.
        """
        with uninterrupted(), self._alone(seconds):
            return self._stop(say, seconds)

    def stop_only(self, names: Sequence[str], say: Say, seconds: float = STOP_SECONDS) -> list[str]:
        """Stop these programs and leave the others; return which of them ran. `start` brings them back.

        Raises:
            ServiceError: one doesn't end in time.
        """
        with uninterrupted(), self._alone(seconds):
            known = self._running()
            if known is None:
                return []
            daemon = self._daemon(known)
            live = _end(daemon, names, say, time.monotonic() + seconds)
            left = _live(daemon, live)
            if left:
                raise ServiceError(
                    f"{' and '.join(left)} didn't end within {seconds:.0f} s; `fraud-detect down` ends all"
                )
            return live

    def status(self) -> list[Status]:
        """Return how each program is; [] if none was started, or all were stopped.

        Raises:
            ServiceError: supervisord lives and doesn't answer.
        """
        known = record.read(self._folder)
        if known is None:
            return []
        states = self._daemon(known).states() if self._running() else {}
        return [_status(entry, states.get(entry.name)) for entry in known.programs]

    def is_up(self) -> bool:
        """Tell whether this home's supervisord runs."""
        return self._running() is not None

    def processes(self) -> "list[psutil.Process]":
        """Return every living process of this home's stack, whoever its parent is."""
        found = processes.of_home(self.home) + processes.named(self._folder.glob("*.pid"))
        return list({process.pid: process for process in found}.values())

    def _running(self) -> Record | None:
        known = record.read(self._folder)
        return known if known is not None and self._daemon(known).alive() else None

    def _daemon(self, known: Record) -> Supervisord:
        return Supervisord(self._folder, self._logs, known.sockets)

    def _start_all(self, say: Say) -> None:
        try:
            left = self.processes()
            if left:
                say(f"ending {len(left)} processes that a killed supervisor left behind")
                processes.end(left, 20.0)
            self._remove()
            known = Record(self._owner, Path(tempfile.mkdtemp(prefix="fraud-")), record.comparable(self._settings), [])
            record.write(self._folder, known)
            programs = list(self._describe(self._settings, known.sockets))
            require_free(programs)
            known.programs.extend(Entry.of(program, self._logs) for program in programs)
            record.write(self._folder, known)
            daemon = self._daemon(known)
            daemon.configure(programs)
            self.owns = True
            daemon.spawn(processes.Mark(self._owner, self.home))
            Starting(daemon, programs, (), say).run()
        except BaseException:
            self._stop(say, STOP_SECONDS)
            raise

    def _start_missing(self, known: Record, say: Say) -> None:
        """Start again what has ended; a second `up` finds nothing to do."""
        if known.owner != self._owner:
            raise StateError(f"`fraud-detect {known.owner}` runs in {self.home}; stop it first")
        record.require_same(known, self._settings, self.home)
        programs = list(self._describe(self._settings, known.sockets))
        daemon = self._daemon(known)
        states = daemon.states()
        ended = [each for each in programs if states[each.name]["statename"] in ENDED]
        daemon.configure(programs)
        try:
            for program in ended:
                _ask_to_end(daemon, program.name)
            require_free(ended)
            Starting(daemon, programs, {each.name for each in programs if each not in ended}, say).run()
        except BaseException:
            with uninterrupted():
                for program in ended:
                    _ask_to_end(daemon, program.name)
            raise
        if not ended:
            say(f"already up, in {self.home}")

    def _stop(self, say: Say, seconds: float) -> bool:
        with uninterrupted():
            deadline = time.monotonic() + seconds
            known = self._running()
            found = bool(self.processes())
            patience = seconds - LEFTOVER_SECONDS
            if known is not None:
                try:
                    self._stop_in_order(known, say, deadline - 2 * LEFTOVER_SECONDS)
                    patience = LEFTOVER_SECONDS
                except ServiceError as exc:
                    say(f"{exc}; ending its processes one by one")
            for _ in range(3):  # who is born while we look is seen by the next look
                left = self.processes()
                if not left:
                    break
                processes.end(left, patience)
            self._remove()
            self.owns = False
            return found

    def _stop_in_order(self, known: Record, say: Say, deadline: float) -> None:
        """Stop those that nobody needs any more, then those that they needed, then supervisord."""
        daemon = self._daemon(known)
        left = {entry.name: entry for entry in known.programs}
        while left:
            needed = {name for entry in left.values() for name in entry.needs}
            layer = [name for name in left if name not in needed]
            # A slow one may take two thirds of the time left; those that don't end are killed in the end.
            _end(daemon, layer, say, time.monotonic() + (deadline - time.monotonic()) * 2 / 3)
            left = {name: entry for name, entry in left.items() if name not in layer}
        own = processes.named([daemon.pid_file])[:1]
        daemon.shutdown()
        processes.wait(own, max(LEFTOVER_SECONDS, deadline - time.monotonic()))

    def _remove(self) -> None:
        known = record.read(self._folder)
        if known is not None:
            shutil.rmtree(known.sockets, ignore_errors=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _alone(self, seconds: float) -> AbstractContextManager[None]:
        self._settings.make_home()
        return alone(self.home / "stack.lock", seconds, f"starts or stops the servers of {self.home}")


@contextmanager
def running(stack: Stack, say: Say, stop_seconds: float = 9.0) -> Iterator[list[Status]]:
    """Run a stack for as long as the block lasts, and stop it however the block ends.

    Raises:
        StateError: it runs already, and isn't ours to stop; else as `Stack.start`.
    """
    if stack.is_up():
        raise StateError(f"the servers of {stack.home} are up; stop them first with `fraud-detect down`")
    try:
        yield stack.start(say)
    finally:
        if stack.owns:
            stack.stop(say, stop_seconds)


def _end(daemon: Supervisord, names: Sequence[str], say: Say, until: float) -> list[str]:
    """Ask programs to end and wait for them, but not beyond `until` (monotonic); return which of them ran."""
    live = _live(daemon, names)
    if live:
        say(f"stopping {' and '.join(live)}")
    for name in live:
        _ask_to_end(daemon, name)
    while time.monotonic() < until and not all(daemon.states()[name]["statename"] in ENDED for name in live):
        time.sleep(POLL_SECONDS)
    return live


def _live(daemon: Supervisord, names: Sequence[str]) -> list[str]:
    """Return which of these programs run, or would be started again by themselves."""
    states = daemon.states()
    return [name for name in names if name in states and states[name]["statename"] not in ENDED - {"BACKOFF"}]


def _ask_to_end(daemon: Supervisord, name: str) -> None:
    try:
        daemon.stop(name)
    except ServiceError:
        return  # it has ended meanwhile


def _status(entry: Entry, info: dict[str, Any] | None) -> Status:
    if info is None or info["statename"] == "STOPPED":
        return Status(entry, "stopped", None, 0)
    state = STATES.get(info["statename"])
    if state is None:
        state = "running" if all(ports.is_open(port) for port in entry.ports) else "starting"
    return Status(entry, state, info["pid"] or None, max(0, info["now"] - info["start"]))
