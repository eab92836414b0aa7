"""`bench train`: how long retraining takes, and where the time goes."""

import os
from typing import Annotated

import typer

from fraud.cli.bench import bench_app
from fraud.cli.console import SEEDS, emit, say
from fraud.cli.data import Json


@bench_app.command("train")
def bench_train(
    rows: Annotated[int, typer.Option(help="About how many transactions are simulated.", min=1_000)] = 1_000_000,
    candidates: Annotated[
        int, typer.Option(help="Sets of parameters that the search tries; 0: a refit without one.", min=0, max=1000)
    ] = 20,
    seed: Annotated[int, typer.Option(help="The same seed simulates and finds the same.", min=0, max=SEEDS)] = 1,
    threads: Annotated[int, typer.Option(help="Threads; 0: all cores.", min=0, max=1024)] = 0,
    as_json: Json = False,
) -> None:
    """Measure one retraining on simulated transactions: features, search, fit, judgement, card and plots.

    Simulation and registration aren't counted. Peak memory is the whole process's, the simulation's tables
    among it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as `train` does
    from fraud.bench.train import run

    found = run(rows, candidates, seed=seed, threads=threads, say=say)
    if as_json:
        emit(found)
        return
    for name, seconds in found["phases"].items():
        say(f"{name:>20}: {seconds:6.1f} s")
    say(
        f"{found['rows']:,} rows, {found['candidates']} candidates: {found['seconds']} s, {found['cpu_seconds']} s of "
        f"CPU, {found['peak_rss_mb']:,} MiB at most, average precision {found['average_precision']:.3f}"
    )
