"""`train`: from a training set to a registered model."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fraud.cli.console import SEEDS, emit, say
from fraud.cli.main import app

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from fraud.registry import Look
    from fraud.registry.pending import Submission
    from fraud.training import LabelledRows

CANDIDATES = 20  # where the training set comes from the lake


@app.command()
def train(
    directory: Annotated[
        Path | None, typer.Option("--from", help="Tables: a directory with transactions.parquet and labels.parquet.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="A training set's address, as `dataset` prints it.")] = None,
    as_of: Annotated[
        str | None,
        typer.Option(help="Train on what was known at this moment, UTC; alone: on the lake's training set of it."),
    ] = None,
    maturity: Annotated[str, typer.Option(help="Leave out transactions younger than this at that moment.")] = "7d",
    seed: Annotated[
        int, typer.Option(help="The same rows and seed give the same model, byte for byte.", min=0, max=SEEDS)
    ] = 0,
    candidates: Annotated[
        int | None,
        typer.Option(
            help=f"Sets of parameters to try; 0: none. Default: {CANDIDATES}, with --from 0.", min=0, max=1000
        ),
    ] = None,
    trees: Annotated[int, typer.Option(help="How many trees, where nothing is searched.", min=1)] = 300,
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
    reuse: Annotated[
        bool, typer.Option("--reuse", help="Where the same training was registered before, return that version.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON line on stdout.")] = False,
) -> None:
    """Train a model on what was known at a moment, judge it on the newest mature days, and register it.

    Labels count by the day they became known; the truth is never read. Registered is not promoted: see
    `judge` and `promote`.
    """
    import time

    # Before XGBoost is imported: OpenMP's threads spin while they wait for each other, and where Spark and Kafka
    # run beside that made a fit ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from fraud.cli.data import duration, moment
    from fraud.cli.submission import submission
    from fraud.training import Parameters
    from fraud.training import train as fit

    began = time.monotonic()
    _contradictions(directory, dataset, as_of)
    clock, mature = None if as_of is None else moment(as_of), duration(maturity)
    tried = (CANDIDATES if directory is None else 0) if candidates is None else candidates
    parameters = Parameters(trees=trees, depth=depth, eta=eta)
    seen = _registry() if register else None
    rows, source = _rows(directory, dataset, clock, mature)
    asked = {"rows": source, "seed": seed, "candidates": tried, "min_frauds": min_frauds}
    if not tried:
        asked |= {"parameters": parameters.to_dict()}
    if seen is not None and reuse and (known := _known(seen, asked)) is not None:
        _finish(known, as_json, began)
        return
    trained = fit(rows, parameters, seed=seed, threads=threads, min_frauds=min_frauds, candidates=tried, say=say)
    result: dict[str, Any] = {
        "version": None,
        "run_id": None,
        "reused": False,
        "as_of": trained.bundle.window["as_of"],
        "rows": len(rows.times),
        "frauds": int(rows.frauds.sum()),
        **trained.report(),
    }
    if out is not None:
        trained.bundle.to_dir(out)
        say(f"the bundle is in {out}")
    if register:
        result = _register(submission(trained, result, asked))
    _finish(result, as_json, began)


def _contradictions(directory: Path | None, dataset: str | None, as_of: str | None) -> None:
    """Refuse options that can't be meant together."""
    from fraud.errors import ConfigError

    if directory is not None and dataset is not None:
        raise ConfigError("give --from or --dataset, not both")
    if directory is None and dataset is None and as_of is None:
        raise ConfigError("say what to train on: --from DIR, --dataset URI, or --as-of TIME for the lake's")
    if dataset is not None and as_of is not None:
        raise ConfigError("a training set has its moment: leave out --as-of beside --dataset")


def _registry() -> "Look":
    """Look at the registry before anything is trained: a server that is away is known now, not in minutes."""
    from fraud.cli.console import settings
    from fraud.registry import look

    return look(settings())


def _rows(
    directory: Path | None, dataset: str | None, clock: "datetime | None", maturity: "timedelta"
) -> tuple["LabelledRows", str]:
    """Return the rows and what names them: the hash of a training set, or of the tables' files."""
    from datetime import UTC, datetime

    from fraud.cli.console import settings

    if directory is not None:
        return _from_tables(directory, clock, maturity)
    from fraud.dataset import build, load, to_rows

    read, now = settings(), datetime.now(UTC)
    found = load(read, str(dataset)) if clock is None else build(read, clock, maturity, say, now=now)
    return to_rows(found), f"dataset {found.manifest.sha256}"


def _from_tables(directory: Path, clock: "datetime | None", maturity: "timedelta") -> tuple["LabelledRows", str]:
    """Make the rows from tables."""
    from fraud.backfill.record import fingerprint
    from fraud.training import labelled_rows
    from producer.tables import read_table

    transactions, labels = read_table(directory, "transactions"), read_table(directory, "labels")
    say(f"building features of {len(transactions):,} transactions")
    rows = labelled_rows(transactions, labels, clock, maturity)
    files = [fingerprint(directory / f"{name}.parquet").sha256 for name in ("transactions", "labels")]
    return rows, f"tables {' '.join(files)} as of {rows.as_of} - {rows.maturity}"


def _known(seen: "Look", asked: dict[str, Any]) -> dict[str, Any] | None:
    """Return the result of the same training where a version of it is registered, or was kept to be registered."""
    from fraud.cli.console import settings
    from fraud.registry import TRAINING, fetch
    from fraud.registry.pending import forget, kept, training_key

    key, read = training_key(asked), settings()
    same = [each for each in seen.versions.values() if each.tags.get(TRAINING) == key]
    if not same:
        waiting = kept(read, key)
        return None if waiting is None else _register(waiting)
    first = min(same, key=lambda each: int(each.version))
    bundle = fetch(read, first.version)
    forget(read, key)  # kept where the server went away after it had made the version
    say(f"version {first.version} comes of the same training already")
    return {
        "version": first.version,
        "run_id": first.run_id,
        "reused": True,
        "as_of": bundle.window["as_of"],
        "parts": bundle.window["parts"],
        "metrics": bundle.metrics["values"],
        "floors": bundle.metrics["floors"],
        "oracles": bundle.metrics["oracles"],
        "confusion": bundle.metrics["confusion"],
        "thresholds": {"review": bundle.review, "block": bundle.block},
    }


def _register(submitted: "Submission") -> dict[str, Any]:
    """Log the run to MLflow; return the training's result with what names the new version."""
    from fraud.cli.console import settings
    from fraud.registry.pending import register

    say("registering the model in MLflow")
    made = register(settings(), submitted)
    return {**submitted.result, "version": made.version, "run_id": made.run_id, "sha256": made.sha256}


def _finish(result: dict[str, Any], as_json: bool, began: float) -> None:
    import time

    result = result | {"seconds": round(time.monotonic() - began, 1)}
    if as_json:
        emit(result)
    else:
        _tell(result)


def _tell(result: dict[str, Any]) -> None:
    """Print the result for people."""
    for name, part in result["parts"].items():
        say(
            f"{name:>9}: {part['rows']:>9,} rows, {part['frauds']:>6,} frauds, {part['from'][:10]} to {part['to'][:10]}"
        )
    for name, value in result["metrics"].items():
        say(f"{name:>18}: {value:.4f} (random {result['floors'][name]:.4f}, oracle {result['oracles'][name]:.4f})")
    note = result["thresholds"].get("note")
    say(f"REVIEW from {result['thresholds']['review']:.4f} on{'' if note is None else f'; {note}'}")
    version = result["version"]
    if version is not None:
        say(
            f"version {version} is registered; beside a model in Production, `fraud-detect judge --version {version}` "
            f"compares the two. `fraud-detect promote --version {version}` makes it decide"
        )
