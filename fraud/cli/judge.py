"""`judge`: a challenger against the champion on the same rows."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fraud.cli.console import emit, say, settings, stderr
from fraud.cli.main import app

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from fraud.model import Bundle
    from fraud.registry.judging import Judged, Source
    from fraud.settings import Settings

NAMES = {"f2": "F2", "average_precision": "average precision"}
SAID = {
    "promote": "`fraud-detect promote --version {}` puts it into Production",
    "keep": "the champion stays",
    "undecided": "it stays in Staging; judge it again with a later --as-of",
}


@app.command()
def judge(
    version: Annotated[int, typer.Option(min=1, help="The challenger.")],
    dataset: Annotated[str | None, typer.Option(help="The training set whose newest rows judge, by its URI.")] = None,
    as_of: Annotated[
        str | None, typer.Option(help="The training set of this moment, UTC; default: the challenger's own.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--from", help="A directory with transactions.parquet and labels.parquet instead.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON line on stdout.")] = False,
) -> None:
    """Compare a version with the one in Production on the newest mature rows, and keep the verdict with it.

    Every verdict is a result, so the exit code is 0: promote, keep or undecided, with the reasons. The version
    goes to Staging. Judged again on the same rows it gets the same verdict.
    """
    import time
    from datetime import UTC, datetime

    from fraud.errors import ConfigError
    from fraud.registry.judging import judge as compare

    if sum(source is not None for source in (dataset, as_of if directory is None else None, directory)) > 1:
        raise ConfigError("give one of --dataset, --as-of and --from; --as-of goes with --from")
    began = time.monotonic()
    read = settings()
    found = compare(
        read, str(version), lambda bundle: _source(read, bundle, dataset, as_of, directory), at=datetime.now(UTC)
    )
    if as_json:
        emit({**found.to_dict(), "seconds": round(time.monotonic() - began, 1)})
    _tell(found)


def _source(
    read: "Settings", challenger: "Bundle", dataset: str | None, as_of: str | None, directory: Path | None
) -> "Source":
    """Load the rows to judge on; without a moment they are known at the challenger's."""
    from datetime import UTC, datetime, timedelta

    from fraud.cli.data import moment
    from fraud.gate import Window

    own = datetime.fromtimestamp(Window.of(challenger).as_of / 1000, UTC)
    clock = own if as_of is None else moment(as_of)
    maturity = timedelta(days=challenger.window.get("maturity_days", 7))
    if directory is not None:
        return _from_tables(directory, clock, maturity)
    from fraud.dataset import build, load, to_rows
    from fraud.registry.judging import Source

    now = datetime.now(UTC)
    found = build(read, clock, maturity, say, now=now) if dataset is None else load(read, dataset)
    return Source(to_rows(found), f"dataset {found.manifest.sha256}")


def _from_tables(directory: Path, clock: "datetime", maturity: "timedelta") -> "Source":
    """Make the rows from tables; their name is the hash of their content."""
    import hashlib

    from fraud.registry.judging import Source
    from fraud.training import labelled_rows
    from producer.tables import read_table

    transactions, labels = read_table(directory, "transactions"), read_table(directory, "labels")
    say(f"building features of {len(transactions):,} transactions")
    rows = labelled_rows(transactions, labels, clock, maturity)
    content = hashlib.sha256()
    for column in (rows.matrix, rows.times, rows.frauds, rows.cards, rows.merchants):
        content.update(column.tobytes())
    return Source(rows, f"tables {content.hexdigest()}")


def _tell(found: "Judged") -> None:
    """Print the comparison for people."""
    evidence = found.evidence
    if evidence is not None:
        say(
            f"judged on {evidence.rows:,} rows with {evidence.frauds:,} frauds of {evidence.customers:,} customers at "
            f"{evidence.merchants:,} merchants, {evidence.days} whole days"
        )
        if evidence.figures:
            _table(found)
    say(f"version {found.version}: {found.verdict.outcome}. {'; '.join(found.verdict.reasons)}")
    say(SAID[found.verdict.outcome].format(found.version))


def _table(found: "Judged") -> None:
    from rich.table import Table

    evidence: Any = found.evidence
    table = Table(box=None, header_style="bold")
    versions = {"challenger": found.version, "champion": found.champion, "reference": found.reference}
    models = [name for name in versions if name in evidence.figures]
    for column in ("", *(f"{name} {versions[name]}" for name in models), "difference (95 %)"):
        table.add_column(column, no_wrap=True)
    for name, label in NAMES.items():
        row = [f"{evidence.figures[model][name]:.4f}" for model in models]
        against = evidence.champion
        table.add_row(label, *row, "" if against is None else str(getattr(against, name)))
    stderr().print(table)
