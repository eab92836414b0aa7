"""`archive`: the job that keeps the topics in the lake and merchant profiles up to date."""

from typing import Annotated

import typer

from fraud.cli.console import emit, quiet_kafka, say, settings
from fraud.cli.main import app


@app.command()
def archive(
    wait: Annotated[
        bool, typer.Option("--wait", help="Don't archive: wait until the running job has what the topics hold now.")
    ] = False,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="DURATION", help="How long to wait at most, such as 90s, 10m or 1h.")
    ] = "10m",
    json: Annotated[bool, typer.Option("--json", help="With --wait: print what is archived as one JSON line.")] = False,
) -> None:
    """Keep the topics in the lake and the merchants' profiles up to date, until Ctrl-C or SIGTERM.

    Transactions, predictions, labels and rejections become rows of Delta tables at FRAUD_LAKE_URI, each record
    once. What was accepted, and the verdicts that come back, change the merchants' volume and fraud rate, from two
    quarter-hours later on. Exits 0 when it was told to stop, 1 when it can't go on; started again, it goes on where
    it ended.

    With --wait it only looks: exit 0 as soon as all that the four topics hold now is in the lake and in the
    profiles, 1 if that takes longer than --timeout, or if there is nothing to wait for.
    """
    if wait:
        from fraud.cli.data import duration
        from spark_jobs.archive_wait import wait as wait_for

        quiet_kafka()
        waited = wait_for(settings(), duration(timeout).total_seconds(), say)
        if json:
            emit(waited.report())
        else:
            say("all that the topics held is archived")
        return
    from spark_jobs.stop import Stop, held_back

    if json:
        raise typer.BadParameter("it is for --wait: the job itself has no result", param_hint="--json")
    stop = Stop()
    with stop.on_signals():
        with held_back():
            from spark_jobs.archive import Order, run

            chosen = settings()
        run(Order(chosen), stop, say)
    say("archive: ended")
