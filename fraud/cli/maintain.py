"""The command `maintain`: keep lake and registry small."""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from fraud.cli import console
from fraud.cli.data import Json, duration
from fraud.cli.main import app


@app.command()
def maintain(
    keep_runs: Annotated[int, typer.Option(help="This many of the newest runs stay, however old.", min=0)] = 50,
    runs_older_than: Annotated[str, typer.Option(help="Younger runs of the experiment stay.")] = "30d",
    lake_only: Annotated[bool, typer.Option("--lake-only", help="Leave MLflow alone.")] = False,
    as_json: Json = False,
) -> None:
    """Compact the lake's tables, remove files that nothing refers to, and delete old MLflow runs.

    It may run beside the stream, and a run that was cut short is finished by the next. Every row stays: those of
    the tables, and those of each version that a training set of the last FRAUD_CUT_DAYS was made of. The run of a
    registered version stays as well. Deleted runs lie in MLflow's trash until `mlflow gc` empties it.

    Histories of the online store need none of this: the score job trims them as it writes, and its outbox too.
    """
    from fraud.lake import open_lake

    age = duration(runs_older_than)
    settings = console.settings()
    started, now = time.perf_counter(), datetime.now(UTC)
    done = open_lake(settings).maintain(now=now, cut_days=settings.cut_days, say=console.say)
    if not done:
        console.say(f"the lake {settings.lake_uri} has no tables yet")
    result: dict[str, object] = {"lake": {name: asdict(table) for name, table in done.items()}}
    if not lake_only:
        from fraud.registry.retention import forget_runs

        runs = forget_runs(settings, before=now - age, keep=keep_runs)
        console.say(f"MLflow: {runs.deleted} runs deleted, {runs.kept} left")
        result["runs"] = asdict(runs)
    if as_json:
        console.emit(result | {"seconds": round(time.perf_counter() - started, 2)})
