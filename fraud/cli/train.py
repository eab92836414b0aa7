"""`train`: from tables of transactions and labels to a registered model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fraud.cli.console import SEEDS, emit, say
from fraud.cli.main import app

if TYPE_CHECKING:
    from fraud.training import Trained


@app.command()
def train(
    directory: Annotated[
        Path, typer.Option("--from", help="A directory with transactions.parquet and labels.parquet.")
    ],
    as_of: Annotated[
        str | None,
        typer.Option(help="Train on what was known at this moment, UTC; default: the newest transaction's."),
    ] = None,
    maturity: Annotated[str, typer.Option(help="Leave out transactions younger than this at that moment.")] = "7d",
    seed: Annotated[
        int, typer.Option(help="The same tables and seed give the same model, byte for byte.", min=0, max=SEEDS)
    ] = 0,
    trees: Annotated[int, typer.Option(help="How many trees.", min=1)] = 300,
    depth: Annotated[int, typer.Option(help="How deep they are.", min=1, max=16)] = 4,
    eta: Annotated[float, typer.Option(help="How much each tree corrects.")] = 0.1,
    min_frauds: Annotated[
        int, typer.Option(help="Frauds that each of the four parts (fit, calibrate, threshold, judge) needs.", min=1)
    ] = 30,
    threads: Annotated[int, typer.Option(help="Threads; 0: all cores.", min=0, max=1024)] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the bundle's three files into this directory.")] = None,
    register: Annotated[
        bool, typer.Option("--register/--no-register", help="Register the model in MLflow as a new version.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON line on stdout.")] = False,
) -> None:
    """Train a model on what was known at a moment, judge it on the newest mature days, and register it.

    Labels count by the day they became known; the truth is never read. Registered is not promoted: see
    `promote`.
    """
    import time

    from fraud.cli.data import duration, moment
    from fraud.training import Parameters, labelled_rows
    from fraud.training import train as fit
    from producer.tables import read_table

    began = time.monotonic()
    parameters = Parameters(trees=trees, depth=depth, eta=eta)
    clock = None if as_of is None else moment(as_of)
    transactions, labels = read_table(directory, "transactions"), read_table(directory, "labels")
    say(f"building features of {len(transactions):,} transactions")
    rows = labelled_rows(transactions, labels, clock, duration(maturity))
    trained = fit(rows, parameters, seed=seed, threads=threads, min_frauds=min_frauds, say=say)
    result: dict[str, Any] = {
        "version": None,
        "run_id": None,
        "as_of": trained.bundle.window["as_of"],
        "rows": len(rows.times),
        "frauds": int(rows.frauds.sum()),
        **trained.report(),
    }
    if out is not None:
        trained.bundle.to_dir(out)
        say(f"the bundle is in {out}")
    if register:
        result |= _register(trained, result, directory)
    result["seconds"] = round(time.monotonic() - began, 1)
    if as_json:
        emit(result)
    else:
        _tell(result)


def _register(trained: "Trained", result: dict[str, Any], directory: Path) -> dict[str, str]:
    """Log the run to MLflow; return what names the new version."""
    import json

    from fraud.cli.console import settings
    from fraud.registry import log_model

    say("registering the model in MLflow")
    values, floors, oracles = result["metrics"], result["floors"], result["oracles"]
    registered = log_model(
        settings(),
        trained.bundle,
        run_name=f"train as of {result['as_of']}",
        metrics={
            **values,
            **{f"{name}_floor": value for name, value in floors.items()},
            **{f"{name}_oracle": value for name, value in oracles.items()},
        },
        params=trained.bundle.params,
        tags={"as_of": result["as_of"], "from": directory.name},
        artifacts={"report.json": json.dumps(result, indent=2).encode()},
    )
    return {"version": registered.version, "run_id": registered.run_id, "sha256": registered.sha256}


def _tell(result: dict[str, Any]) -> None:
    """Print the result for people."""
    for name, part in result["parts"].items():
        say(
            f"{name:>9}: {part['rows']:>9,} rows, {part['frauds']:>6,} frauds, {part['from'][:10]} to {part['to'][:10]}"
        )
    for name, value in result["metrics"].items():
        say(f"{name:>18}: {value:.4f} (random {result['floors'][name]:.4f}, oracle {result['oracles'][name]:.4f})")
    say(f"REVIEW from {result['thresholds']['review']:.4f} on; {result['thresholds']['note']}")
    version = result["version"]
    if version is not None:
        say(f"version {version} is registered; `fraud-detect promote --version {version}` makes it decide")
