"""One supervisord: its configuration, its start as a daemon, its control over a socket.

It starts what it is told to, restarts what dies, rotates the logs and outlives the terminal.
"""

import http.client
import json
import os
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fraud.errors import ConfigError, ServiceError
from fraud.stack import processes
from fraud.stack.program import Program

LOG_BYTES, LOG_BACKUPS = "20MB", 3
# sockaddr_un (unix(7)) holds 108 bytes, 104 on macOS; supervisord appends its pid while it starts.
LONGEST_SOCKET = 90


@dataclass(frozen=True)
class Supervisord:
    """The supervisord of a stack.

    Attributes:
        folder: its configuration, the programs' commands and pid files.
        logs: one log per program.
        sockets: a folder with a short path.
    """

    folder: Path
    logs: Path
    sockets: Path

    @property
    def pid_file(self) -> Path:
        """Where the daemon writes its pid, in the same form as its children (fraud.stack.child)."""
        return self.folder / "supervisord.pid"

    def alive(self) -> bool:
        """Tell whether it runs."""
        return bool(processes.named([self.pid_file]))

    def configure(self, programs: Sequence[Program]) -> None:
        """Write its configuration and the programs' commands, which a restarted program reads anew."""
        if len(str(self._socket)) > LONGEST_SOCKET:
            raise ConfigError(f"TMPDIR is too long for a socket: {self._socket}; set a shorter one")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        commands = {
            each.name: {"command": list(map(str, each.command)), "environment": dict(each.environment)}
            for each in programs
        }
        _write(self._commands, json.dumps(commands))
        _write(self._config, self._text(programs))

    def spawn(self, mark: processes.Mark) -> None:
        """Start it as a daemon; every process it starts carries the mark.

        Raises:
            ServiceError: it doesn't start.
        """
        raw_pid = self.folder / "supervisord.raw"
        raw_pid.unlink(missing_ok=True)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._config)]
        done = subprocess.run(  # noqa: S603
            command,
            env={**os.environ, processes.VARIABLE: str(mark)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        answers = done.returncode == 0 and _eventually(self._answers)
        if not answers:
            raise ServiceError(f"supervisord doesn't start: {done.stderr.strip()[-500:] or self._last_words()}")
        _write(self.pid_file, json.dumps(processes.identity(int(raw_pid.read_text()))))

    def states(self) -> dict[str, dict[str, Any]]:
        """Return supervisord's own words about each program (`getProcessInfo`), by name.

        Raises:
            ServiceError: it doesn't answer.
        """
        with self._control() as control:
            return {each["name"]: each for each in control.getAllProcessInfo()}

    def start(self, name: str) -> None:
        """Start a program; return at once. Raises ServiceError if it can't be started at all."""
        with self._control() as control:
            control.startProcess(name, False)

    def stop(self, name: str) -> None:
        """Ask a program to end; return at once. It is killed when it takes longer than its `stop_seconds`."""
        with self._control() as control:
            control.stopProcess(name, False)

    def shutdown(self) -> None:
        """Ask supervisord to end itself and whatever still runs."""
        with self._control() as control:
            control.shutdown()

    @property
    def _socket(self) -> Path:
        return self.sockets / "control.sock"

    @property
    def _config(self) -> Path:
        return self.folder / "supervisord.conf"

    @property
    def _commands(self) -> Path:
        return self.folder / "commands.json"

    def _answers(self) -> bool:
        try:
            self.states()
        except ServiceError:
            return False
        return (self.folder / "supervisord.raw").exists()

    def _last_words(self) -> str:
        log = self.logs / "supervisord.log"
        return log.read_text(errors="replace")[-500:].strip() if log.exists() else "it says nothing"

    @contextmanager
    def _control(self) -> Iterator[Any]:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        try:
            yield xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor
        except xmlrpc.client.Fault as exc:
            raise ServiceError(f"supervisord refuses: {exc.faultString}") from exc
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as exc:
            raise ServiceError(f"supervisord at {self._socket} doesn't answer ({exc})") from exc
        finally:
            transport.close()

    def _text(self, programs: Sequence[Program]) -> str:
        sections: dict[str, dict[str, object]] = {
            "unix_http_server": {"file": self._socket, "chmod": "0700"},
            "rpcinterface:supervisor": {
                "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
            },
            "supervisord": {
                "logfile": self.logs / "supervisord.log",
                "logfile_maxbytes": LOG_BYTES,
                "logfile_backups": LOG_BACKUPS,
                "pidfile": self.folder / "supervisord.raw",
                "directory": self.folder,
                # Nobody else may want to run it; as root it asks to be told that root is meant.
                **({"user": "root"} if os.getuid() == 0 else {}),
            },
        }
        for each in programs:
            command = [sys.executable, "-m", "fraud.stack.child", self._commands, each.name]
            sections[f"program:{each.name}"] = {
                "command": " ".join(_quoted(str(word)) for word in command),
                "autostart": "false",
                "autorestart": "true",
                "startsecs": each.start_seconds,
                "startretries": 3,
                "stopsignal": each.stop_signal,
                "stopwaitsecs": each.stop_seconds,
                "stopasgroup": "true",
                "killasgroup": "true",
                "redirect_stderr": "true",
                # supervisord expands this value twice.
                "stdout_logfile": str(self.logs / f"{each.name}.log").replace("%", "%%"),
                "stdout_logfile_maxbytes": LOG_BYTES,
                "stdout_logfile_backups": LOG_BACKUPS,
            }
        lines = []
        for section, options in sections.items():
            lines += [f"[{section}]", *(f"{key} = {str(value).replace('%', '%%')}" for key, value in options.items())]
        return "\n".join([*lines, ""])


def _quoted(word: str) -> str:
    """Quote a word of a command; a semicolon after a space would begin a comment."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _write(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        handle.write(text)
    fresh.replace(path)


def _eventually(check: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
