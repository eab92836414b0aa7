"""`doctor`: what is wrong with the platform of this home, and what to do about it.

It changes nothing and starts nothing. The checks of one part stand together: here those of the machine (Java,
jars, disk, ports, processes), in `doctor_services` those of what runs on it, in `doctor_loop` those of what
brings labels back: the archive job and Airflow; `doctor_database` looks into their PostgreSQL.
"""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from fraud.settings import PREFIX, Settings
from fraud.stack import doctor_database as database
from fraud.stack import doctor_loop as loop
from fraud.stack import doctor_services as services
from fraud.stack import doctor_words as words
from fraud.stack import jars, ports, processes
from fraud.stack.finding import Finding, findings, ok, problem, warning
from fraud.stack.java import java
from fraud.stack.starting import last_words
from fraud.stack.supervisor import Stack

GIB = 1 << 30
LITTLE_DISK, NO_DISK = 5 * GIB, GIB


def examine(settings: Settings, now: int) -> Iterator[Finding]:
    """Yield the findings, the machine's first; `now` is in ms since the epoch."""
    for topic, check in {
        "java": partial(_java, settings),
        "jars": partial(_jars, settings),
        "disk": partial(_disk, settings),
        "programs": partial(_programs, settings),
        "ports": partial(_ports, settings),
        "kafka": partial(services.kafka, settings),
        "s3": partial(services.s3, settings),
        "mlflow": partial(services.mlflow, settings),
        "postgres": partial(database.postgres, settings),
        "store": partial(services.store, settings, now),
        "positions": partial(services.positions, settings),
        "score": partial(services.score, settings, now),
        "archive": partial(loop.archive, settings, now),
        "airflow": partial(loop.airflow, settings),
    }.items():
        yield from findings(topic, check)


def _java(settings: Settings) -> Iterator[Finding]:
    found = java(settings)
    yield ok("java", f"Java {found.version} from {found.source}: {found.path}")


def _jars(settings: Settings) -> Iterator[Finding]:
    # A broker elsewhere has jars of its own.
    for name in ("kafka", "spark") if words.is_local(settings, "kafka_bootstrap") else ("spark",):
        folder = jars.folder(settings, name)
        wrong = jars.damaged(settings, name)
        if wrong:
            told = "; ".join(wrong[:3])
            yield problem("jars", f"{told}. Remove {folder}, and the next `fraud-detect up` fetches them again")
        elif not folder.exists():
            yield warning("jars", f"the jars of {name} aren't fetched yet; `fraud-detect up` does it, once")
        else:
            yield ok("jars", f"{len(jars.pinned(name))} jars of {name} are what jars.lock pins")


def _disk(settings: Settings) -> Iterator[Finding]:
    home = settings.home.absolute()
    folder = next(each for each in (home, *home.parents) if each.exists())
    free = shutil.disk_usage(folder).free
    told = f"{free / GIB:.1f} GiB are free at {home}"
    if free < NO_DISK:
        yield problem("disk", f"{told}: Kafka and the store stop when it is full. Make room, or move {PREFIX}HOME")
    elif free < LITTLE_DISK:
        yield warning("disk", f"{told}; make room before Kafka and the store fill it")
    else:
        yield ok("disk", told)


def _programs(settings: Settings) -> Iterator[Finding]:
    stack = Stack(settings)
    if not stack.is_up():
        left = stack.processes()
        if left:
            told = ", ".join(processes.describe(each) for each in left[:3])
            yield problem("programs", f"their supervisor was killed, {told} still run; `fraud-detect down` ends them")
        return
    for each in stack.status():
        log = Path(each.entry.log)
        if each.state in ("failed", "restarting", "stopped"):
            yield problem(
                "programs", f"{each.entry.name} is {each.state}; `fraud-detect up` tries again. {last_words(log)}"
            )
        else:
            yield ok("programs", f"{each.entry.name} is {each.state} for {each.seconds} s, pid {each.pid}")


def _ports(settings: Settings) -> Iterator[Finding]:
    home = settings.home.absolute()
    named = [(field, settings.port(field)) for field in ("kafka_bootstrap", "s3_endpoint", "mlflow_uri", "airflow_uri")]
    uis = [("spark_ui_port", settings.spark_ui_port), ("archive_ui_port", settings.archive_ui_port)]
    for field, port in [*named, *uis]:
        setting = f"{PREFIX}{field.upper()}"
        if not words.is_local(settings, field) or port == 0:
            continue
        if not ports.is_open(port):
            yield problem("ports", f"nothing listens on {port} ({setting}); `fraud-detect up` starts what should")
            continue
        process = ports.holder(port)
        mark = None if process is None else processes.Mark.of(process)
        if process is not None and mark is not None and mark.home != home:
            yield problem(
                "ports",
                f"{port} ({setting}) belongs to `fraud-detect {mark.owner}` in {mark.home}, not to {home}: "
                f"set FRAUD_HOME to that, or give this one other ports",
            )
        else:
            who = "another user's process" if process is None else processes.describe(process)
            yield ok("ports", f"{port} ({setting}): {who}")
