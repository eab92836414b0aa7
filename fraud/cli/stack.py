"""Commands about the platform's servers on this machine: up, down, status, doctor."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fraud.cli.console import emit, quiet_kafka, say, settings, stderr
from fraud.cli.main import app
from fraud.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from fraud.settings import Settings
    from fraud.stack.supervisor import Stack, Status

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON line on stdout.")]
JOBS = ("score", "archive")
COLOURS = {"ok": "green", "warning": "yellow", "problem": "red", "running": "green", "failed": "red"}
TITLES = {
    "airflow": "Airflow",
    "archive": "Spark UI (archive job)",
    "score": "Spark UI (score job)",
    "mlflow": "MLflow",
    "s3": "S3",
    "kafka": "Kafka",
}
FIRST_STEPS = """
Nothing is scored before there is a model, but transactions are collected. Next, with a simulated past or your tables:
  fraud-detect simulate --days 60 --out past
  fraud-detect train --from past
  fraud-detect promote
Then `fraud-detect produce` sends transactions, and `fraud-detect consume` shows the predictions.
Users begin without a history. To load the past's first, while the score job isn't at work:
  fraud-detect down
  fraud-detect backfill past
  fraud-detect up"""
NEXT_STEPS = """
`fraud-detect produce` sends transactions, `fraud-detect consume` shows the predictions,
`fraud-detect doctor` says what is wrong, `fraud-detect down` stops everything; the data stay."""


@app.command()
def up(as_json: Json = False) -> None:
    """Start Kafka, S3, MLflow, the score job, the archive job and Airflow, supervised; return when they serve.

    What runs already stays as it is. They outlive this terminal; `down` stops them. Ctrl-C meanwhile stops
    what was started.
    """
    from fraud.stack.signals import interruptible
    from fraud.stack.supervisor import Stack

    quiet_kafka()
    chosen = settings()
    with interruptible():
        started = Stack(chosen).start(say)
    if as_json:
        emit(_report(chosen, started))
        return
    stderr().print(_addresses(chosen, started))
    say(FIRST_STEPS if _serves_nothing(chosen) else NEXT_STEPS)


@app.command()
def down(
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove the data as well, once everything has ended.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before removing the data.")] = False,
    jobs: Annotated[
        bool, typer.Option("--jobs", help="Only the score job and the archive job; Kafka, S3 and the rest go on.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Stop what `up` started. The data stay, unless they are to be wiped.

    With --wipe the topics, the models, the online store, the checkpoints and Airflow's runs go; jars and logs stay.
    With --jobs nobody writes the online store any more, so that `rebuild` may; `up` starts the jobs again.
    """
    from fraud.stack import wipe as wiping
    from fraud.stack.supervisor import Stack

    chosen = settings()
    stack = Stack(chosen)
    if jobs:
        _stop_jobs(stack, wipe=wipe, as_json=as_json)
        return
    if wipe:
        folders = wiping.stored(chosen)
        wiping.require_unused(chosen, besides=stack.processes())
        if folders and not yes:
            told = "\n".join(f"  {folder}" for folder in folders)
            typer.confirm(f"Remove for good what is in\n{told}\n?", abort=True, err=True)
    ran = stack.stop(say)
    removed = wiping.wipe(chosen) if wipe else []
    if as_json:
        emit({"home": str(stack.home), "stopped": ran, "removed": [str(folder) for folder in removed]})
        return
    say(f"stopped what ran in {stack.home}" if ran else f"nothing ran in {stack.home}")
    for folder in removed:
        say(f"removed {folder}")


def _stop_jobs(stack: "Stack", *, wipe: bool, as_json: bool) -> None:
    if wipe:
        raise ConfigError("--wipe removes what Kafka and S3 hold too, and --jobs leaves them up: leave one of them out")
    ended = stack.stop_only(JOBS, say)
    if as_json:
        emit({"home": str(stack.home), "stopped": ended})
        return
    say(f"stopped {' and '.join(ended)}; `fraud-detect up` starts them again" if ended else "no job ran")


@app.command()
def status(as_json: Json = False) -> None:
    """Show what `up` started: its state, addresses and logs."""
    from fraud.stack.supervisor import Stack

    chosen = settings()
    found = Stack(chosen).status()
    if as_json:
        emit(_report(chosen, found))
    elif found:
        stderr().print(_states(found))
        for line in [line for each in found for line in _login(chosen, each)]:
            say(f" Airflow: {line}")
        say(f" logs in {chosen.logs.absolute()}")
    else:
        say(f"nothing is up in {chosen.home.absolute()}; `fraud-detect up` starts it")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what is wrong with the platform and what to do about it; exit 1 if anything is.

    Looks at Java, jars, disk, ports, topics and their settings, buckets, the model in Production and whether
    the store serves it, the store's headroom, its leases, how far store and lake are behind the topics, and
    whether Airflow is healthy, can read its DAGs and has retrained.
    """
    from fraud.stack.doctor import examine

    quiet_kafka()
    now = time.time_ns() // 1_000_000
    findings = []
    console = stderr()
    for finding in examine(settings(), now):
        findings.append(finding)
        if not as_json:
            console.print(f"[{COLOURS[finding.level]}]{finding.level:<8}[/] {finding.topic:<10}", end="")
            console.print(finding.message, markup=False, highlight=False)
    counts = {level: sum(each.level == level for each in findings) for level in ("problem", "warning")}
    if as_json:
        rows = [{"topic": each.topic, "level": each.level, "message": each.message} for each in findings]
        emit({"problems": counts["problem"], "warnings": counts["warning"], "findings": rows})
    else:
        say(f"problems: {counts['problem']}, warnings: {counts['warning']}")
    if counts["problem"]:
        raise typer.Exit(1)


def _report(chosen: "Settings", found: "list[Status]") -> dict[str, Any]:
    """Return the result of `up` and `status`."""
    programs = [
        {
            "name": each.entry.name,
            "state": each.state,
            "pid": each.pid,
            "seconds": each.seconds,
            "address": each.entry.address,
            "ui": each.entry.ui,
            "log": each.entry.log,
            **_login_file(chosen, each),
        }
        for each in found
    ]
    running = bool(found) and all(each.state == "running" for each in found)
    return {"home": str(chosen.home.absolute()), "up": running, "programs": programs}


def _addresses(chosen: "Settings", started: "list[Status]") -> "Table":
    table = _table("", "")
    for each in reversed(started):
        # A part without an address of its own is no place to go to.
        if each.entry.name in TITLES:
            table.add_row(TITLES[each.entry.name], each.entry.ui or each.entry.address)
        for line in _login(chosen, each):
            table.add_row("", line)
    table.add_row("Logs", str(chosen.logs.absolute()))
    return table


def _login(chosen: "Settings", status: "Status") -> list[str]:
    """Return what to type at a UI that asks for it: for a person's own screen, never as JSON."""
    from fraud.stack import airflow

    known = airflow.password(chosen) if status.entry.name == airflow.NAME else None
    return [] if known is None else [f"login {airflow.USER}, password {known}"]


def _login_file(chosen: "Settings", status: "Status") -> dict[str, Any]:
    """Return, of a program that asks for a login, the user and the file that holds the password."""
    from fraud.stack import airflow

    if status.entry.name != airflow.NAME:
        return {}
    return {"login": {"user": airflow.USER, "password_file": str(airflow.password_file(chosen))}}


def _states(found: "list[Status]") -> "Table":
    table = _table("program", "state", "pid", "since", "address")
    for each in found:
        since = f"{each.seconds} s" if each.seconds < 120 else f"{each.seconds // 60} min"
        state = f"[{COLOURS.get(each.state, 'yellow')}]{each.state}[/]"
        row = (each.entry.name, state, str(each.pid or "-"), since, each.entry.ui or each.entry.address)
        table.add_row(*row)
    return table


def _table(*columns: str) -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, show_header=any(columns), pad_edge=False)
    for column in columns:
        # An address or a path that is cut can't be used.
        table.add_column(column, overflow="fold", no_wrap=False)
    return table


def _serves_nothing(chosen: "Settings") -> bool:
    from fraud.stack.stored import opened

    with opened(chosen) as store:
        return store is None or store.serving.pointer() is None
