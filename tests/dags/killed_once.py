"""A `fraud-detect` that is killed with -9 the first time of each subcommand, after its work and before its answer.

That is the worst moment: whatever it does has been done, and nobody knows.
"""

import os
import shlex
import signal
import stat
import subprocess
import sys
from pathlib import Path

REAL = Path(sys.executable).with_name("fraud-detect")


def install(folder: Path) -> Path:
    """Write the command, which remembers in `folder` whom it has killed; return its path."""
    command = folder / "fraud-detect"
    words = " ".join(map(shlex.quote, (sys.executable, __file__, str(folder))))
    command.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return command


def main(folder: Path, arguments: list[str]) -> None:
    """Run the real command; the first time, die before its answer is out."""
    killed = folder / ("check" if "--check" in arguments else arguments[0])
    if killed.exists():
        os.execv(REAL, [str(REAL), *arguments])
    done = subprocess.run([REAL, *arguments], stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:  # a failure is told, so that a test says what failed
        sys.exit(done.returncode)
    killed.touch()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
