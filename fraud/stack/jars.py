"""The jars that Kafka and Spark's connector run on: pinned, fetched once, offline afterwards.

`jars.lock` beside this file names each with its sha256. The Ivy inside pyspark fetches them, so
Java is all it takes. A set is complete when its folder exists: it is moved into place as a whole,
after every checksum was right.
"""

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fraud.errors import ServiceError, StateError
from fraud.settings import Settings
from fraud.stack.java import java

LOCK = Path(__file__).with_name("jars.lock")
# Everything is pinned, so nothing needs to be resolved: without poms 46 jars take 8 s, not 38.
IVY_SETTINGS = """<ivysettings>
  <settings defaultResolver="public"/>
  <resolvers><ibiblio name="public" m2compatible="true" usepoms="false" checkmodified="false"/></resolvers>
</ivysettings>
"""


@dataclass(frozen=True)
class Jar:
    """One pinned jar."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """Its file's name."""
        return f"{self.artifact}-{self.version}.jar"


def spark_jars(settings: Settings) -> list[Path]:
    """Return the jars of Spark's Kafka connector (for `spark.jars`), fetched if need be.

    Raises:
        ServiceError: they aren't here and can't be fetched, or what came isn't what is pinned.
    """
    return jars(settings, "spark")


def kafka_jars(settings: Settings) -> list[Path]:
    """Return the broker's class path, fetched if need be; raises as `spark_jars`."""
    return jars(settings, "kafka")


def pinned(name: str) -> list[Jar]:
    """Return what `jars.lock` pins for a set, in its order."""
    rows = (line.split() for line in LOCK.read_text().splitlines() if not line.startswith("#"))
    found = []
    for owner, coordinates, sha256 in rows:
        group, artifact, version = coordinates.split(":")
        if owner == name:
            found.append(Jar(group, artifact, version, sha256))
    return found


def folder(settings: Settings, name: str) -> Path:
    """Return where a set is kept; its name changes with what is pinned."""
    wanted = "\n".join(f"{jar.file} {jar.sha256}" for jar in pinned(name))
    return settings.cache.absolute() / "jars" / f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"


def paths(settings: Settings, name: str) -> list[Path]:
    """Return where a set's jars are, or will be once they are fetched."""
    where = folder(settings, name)
    return [where / jar.file for jar in pinned(name)]


def notice(settings: Settings, name: str) -> str:
    """Return what a person should know before a set is used; empty if it is here."""
    wanted = paths(settings, name)
    return "" if all(path.exists() for path in wanted) else f"fetching {len(wanted)} jars, once"


def jars(settings: Settings, name: str) -> list[Path]:
    """Return the paths of a set's jars; one run fetches, others wait for it."""
    where = folder(settings, name)
    wanted = paths(settings, name)
    if not all(path.exists() for path in wanted):
        settings.make_home()
        where.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(where.with_name(f"{name}.lock")):
            if not all(path.exists() for path in wanted):
                shutil.rmtree(where, ignore_errors=True)
                _fetch(settings, name, where)
    return wanted


def damaged(settings: Settings, name: str) -> list[str]:
    """Return what is wrong with a fetched set, one sentence a jar; [] if nothing is, or it isn't fetched."""
    where = folder(settings, name)
    return _differences(where, pinned(name)) if where.exists() else []


def _fetch(settings: Settings, name: str, where: Path) -> None:
    spec = find_spec("pyspark")
    ivy = sorted(Path(spec.origin).parent.glob("jars/ivy-*.jar")) if spec and spec.origin else []
    if not ivy:
        raise StateError("pyspark isn't installed, and its Ivy fetches the jars: pip install 'fraud-detect[spark]'")
    wanted = pinned(name)
    with tempfile.TemporaryDirectory(dir=where.parent, prefix=f"{name}-") as made:
        work = Path(made)
        (work / "ivysettings.xml").write_text(IVY_SETTINGS)
        (work / "ivy.xml").write_text(_module(wanted))
        command = [str(java(settings).executable), "-jar", str(ivy[-1])]
        command += ["-settings", str(work / "ivysettings.xml"), "-ivy", str(work / "ivy.xml")]
        command += ["-cache", str(work / "cache"), "-retrieve", f"{work}/jars/[artifact]-[revision].[ext]"]
        for _ in range(2):  # the second goes on where a broken connection ended the first
            done = subprocess.run(  # noqa: S603
                command, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=work
            )
            if done.returncode == 0:
                break
        wrong = _differences(work / "jars", wanted)
        if done.returncode != 0 or wrong:
            raise ServiceError(_explain(name, where, done.stdout + done.stderr, wrong))
        shutil.move(work / "jars", where)


def _module(wanted: list[Jar]) -> str:
    lines = [
        f'<dependency org="{jar.group}" name="{jar.artifact}" rev="{jar.version}" '
        'transitive="false" conf="default->master(*)"/>'
        for jar in wanted
    ]
    head = '<ivy-module version="2.0"><info organisation="fraud" module="jars"/><dependencies>'
    return head + "".join(lines) + "</dependencies></ivy-module>\n"


def _differences(where: Path, wanted: list[Jar]) -> list[str]:
    wrong = []
    for jar in wanted:
        path = where / jar.file
        if not path.exists():
            wrong.append(f"{jar.file} is missing")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != jar.sha256:
            wrong.append(f"{jar.file} has another sha256 than jars.lock")
    return wrong


def _explain(name: str, where: Path, output: str, wrong: list[str]) -> str:
    causes = [line.strip() for line in output.splitlines() if "error" in line.lower() or "Exception" in line]
    because = causes[0] if causes else "; ".join(wrong[:3])
    return (
        f"the {len(pinned(name))} jars of `{name}` can't be fetched: {because}. They are fetched once: "
        f"connect this machine (behind a proxy: JAVA_TOOL_OPTIONS='-Dhttps.proxyHost=… -Dhttps.proxyPort=…') "
        f"or copy the folder {where} from a machine that has it"
    )


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
