"""`bench all`: every measurement of README's table, one after the other."""

from pathlib import Path
from typing import Annotated

import typer

from fraud.cli.bench import Plots, bench_app
from fraud.cli.console import emit, say, settings
from fraud.cli.data import Json


@bench_app.command("all")
def bench_all(
    into: Annotated[
        Path | None, typer.Option(help="Folder of the results, one JSON file each; default: FRAUD_HOME/measured.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this part: stream, archived, peers, recovery, scale, store, features, model, train. Repeatable."
        ),
    ] = None,
    runs: Annotated[int, typer.Option(help="How often the stream, its peers and more users are measured.", min=1)] = 1,
    again: Annotated[bool, typer.Option("--again", help="Measure nothing; print the table of the results.")] = False,
    plots: Plots = None,
    as_json: Json = False,
) -> None:
    """Measure everything that README's table shows and print it as Markdown: some 25 minutes, machine left alone.

    A part that fails is named at the end, with exit code 1; the others stand. What needs the peers' packages
    (`make peers`) is left out without them.
    """
    from fraud.bench import measured
    from fraud.stack.signals import interruptible

    folder = (settings().home / "measured" if into is None else into).absolute()
    parts = measured.chosen(only)
    failed = []
    if not again:
        with interruptible():
            failed = measured.measure(parts, folder, runs, say)
    found = measured.read(parts, folder)
    if plots is not None:
        for path in measured.draw(found, plots):
            say(str(path))
    if as_json:
        emit({part.name: each.result for part, each in found})
    else:
        typer.echo("\n".join(measured.markdown(found)))
    if failed:
        say(f"failed: {', '.join(failed)}")
        raise typer.Exit(1)
