"""`score`: the streaming job, until it is told to stop."""

from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fraud.cli.console import say, settings
from fraud.cli.main import app

if TYPE_CHECKING:
    from fraud.settings import Settings
    from fraud.watcher import Watching


class Begin(StrEnum):
    """Where a first start begins."""

    earliest = "earliest"
    latest = "latest"


class Profile(StrEnum):
    """What micro-batches are made for."""

    latency = "latency"
    throughput = "throughput"


@app.command()
def score(
    begin: Annotated[
        Begin | None,
        typer.Option("--from", help="Where a first start begins; later ones go on where the last ended."),
    ] = None,
    profile: Annotated[
        Profile | None,
        typer.Option(help="Small micro-batches, soon, or large ones, cheap; else FRAUD_SCORE_PROFILE's."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch/--no-watch", help="Follow the model in Production, or keep the store's.")
    ] = True,
) -> None:
    """Score the stream: transactions in, predictions and rejections out, until Ctrl-C or SIGTERM.

    Each transaction is decided once and published at least once, a repeat being the same bytes. Without a model
    in Production it collects: histories are kept, nothing is decided, until one is promoted. Exits 0 when it was
    told to stop, 1 when it can't go on; started again, it goes on where it ended.
    """
    from spark_jobs.stop import Stop, held_back

    stop = Stop()
    with stop.on_signals():
        with held_back():
            from spark_jobs.score import Order, run

            chosen = settings() if profile is None else settings(score_profile=profile.value)
        order = Order(
            chosen,
            choice=None if begin is None else begin.value,
            watch=partial(_watch, chosen) if watch else None,
        )
        run(order, stop, say)
    say("score: ended")


def _watch(chosen: "Settings", store: Any) -> "Watching":
    """Start the model watcher beside the driver."""
    from fraud.watcher import start
    from spark_jobs.score import clock

    return start(chosen, store, clock=clock, say=say)
