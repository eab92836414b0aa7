"""`dataset`: the training set as it was known at a moment."""

from typing import Annotated, Any

import typer

from fraud.cli.console import emit, say, settings
from fraud.cli.main import app


@app.command()
def dataset(
    as_of: Annotated[
        str | None, typer.Option(help="What was known at this moment, UTC; labels given later don't exist.")
    ] = None,
    maturity: Annotated[str, typer.Option(help="Leave out transactions younger than this at that moment.")] = "7d",
    check: Annotated[
        str | None, typer.Option(help="Check the training set at this address in the place of building one.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Build it although it is there, and compare with the hash on record.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON line on stdout.")] = False,
) -> None:
    """Build the training set of a moment in the lake, or check one: counts, rate of frauds, ranges of features.

    The first build of a moment records the cut, each table's version. Whatever comes to the lake later, the same
    moment gives the same rows, byte for byte.
    """
    import time
    from datetime import UTC, datetime

    from fraud.cli.data import duration, moment
    from fraud.dataset import build, load
    from fraud.dataset.check import check as checked
    from fraud.errors import ConfigError

    began = time.monotonic()
    if (as_of is None) == (check is None):
        raise ConfigError("give either --as-of TIME or --check URI")
    result: dict[str, Any]
    if check is not None:
        verdict = checked(load(settings(), check))
        for warning in verdict.warnings:
            say(f"note: {warning}")
        say(f"{verdict.rows:,} rows, {verdict.frauds:,} frauds ({verdict.fraud_rate:.3%}): fit to be trained on")
        result = {"uri": check, **verdict.to_dict()}
    else:
        clock = moment(str(as_of))
        built = build(settings(), clock, duration(maturity), say, now=datetime.now(UTC), again=again)
        known = built.manifest
        say(f"{built.uri}: {known.rows:,} rows, {known.frauds:,} frauds, sha256 {known.sha256}")
        result = {
            "uri": built.uri,
            "as_of": known.as_of,
            "rows": known.rows,
            "frauds": known.frauds,
            "rebuilt_rows": known.rebuilt_rows,
            "sha256": known.sha256,
            "cut": known.cut,
        }
    if as_json:
        emit(result | {"seconds": round(time.monotonic() - began, 1)})
