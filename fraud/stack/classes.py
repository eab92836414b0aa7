"""An archive of the classes that Spark's JVM loads at its start, which takes a third less processor time with one.

It is Java's own (application class data sharing, JEP 350) and belongs to one Java and one set of jars, so it is made
where they are: once, in half a minute, by a session that does what every job does. A JVM that can't use an archive
goes on without.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from fraud.settings import Settings
from fraud.stack.java import JavaHome, java
from fraud.stack.lock import alone

MAKING_SECONDS = 180
# A JVM whose jars have changed since says nothing and starts without.
QUIET = "-Xlog:cds=off -Xlog:cds+dynamic=off"

Say = Callable[[str], None]


def path(settings: Settings, home: JavaHome) -> Path:
    """Return where the archive of a Java and of the installed pyspark's jars is, or will be."""
    spec = find_spec("pyspark")
    folder = Path(spec.origin or "").parent if spec else Path()
    stats = ((jar.name, jar.stat()) for jar in sorted(folder.glob("jars/*.jar")))
    seen = [f"{home.path} {home.version}", *(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)]
    digest = hashlib.sha256("\n".join(seen).encode()).hexdigest()[:12]
    return settings.cache.absolute() / "classes" / f"spark-{digest}.jsa"


def option(settings: Settings, home: JavaHome) -> str:
    """Return the JVM's option for the archive; empty if it isn't here."""
    archive = path(settings, home)
    return f'"-XX:SharedArchiveFile={archive}" {QUIET}' if archive.exists() else ""


def own_archive(home: JavaHome) -> Path:
    """Return where a Java keeps the archive of its own classes; a build may have none."""
    return home.path / "lib" / "server" / "classes.jsa"


def notice(settings: Settings) -> str:
    """Return what a person should know before the archive is used; empty if it is here, or can't be made."""
    home = java(settings)
    made = path(settings, home).exists() or not own_archive(home).exists()
    return "" if made else "archiving the classes of its JVM, once"


def ensure(settings: Settings, say: Say) -> Path | None:
    """Make the archive if it isn't here; return it, None where it can't be made: `say` is told why.

    One process makes it, others wait. Archives of other Javas and other jars are removed.
    """
    home = java(settings)
    archive = path(settings, home)
    if archive.exists():
        return archive
    if not own_archive(home).exists():
        say(f"Spark's JVM starts without an archive of its classes: {home.path} has none of its own to add to")
        return None
    settings.make_home()
    with alone(archive.with_name("lock"), MAKING_SECONDS + 30, "makes the archive of Spark's classes"):
        if not archive.exists():
            say("archiving the classes of Spark's JVM, once: half a minute")
            failure = _make(settings, archive)
            if failure:
                say(f"the classes of Spark's JVM can't be archived, its start takes longer: {failure}")
                return None
    return archive


def _make(settings: Settings, archive: Path) -> str:
    """Make it; return what went wrong."""
    for old in archive.parent.glob("spark-*.jsa*"):
        old.unlink()
    made = archive.with_suffix(".jsa.new")
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "spark_jobs.classes", str(made)],
            env={**os.environ, **settings.environment()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=MAKING_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {MAKING_SECONDS} s"
    if done.returncode == 0 and made.exists():
        made.rename(archive)
        return ""
    told = [
        line for line in (done.stdout + done.stderr).splitlines() if "rror" in line and not line.startswith("\tat ")
    ]
    return told[-1].strip() if told else f"exit code {done.returncode}"
