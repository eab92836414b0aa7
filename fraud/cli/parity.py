"""The command `parity`: the stream's features against the offline builder's."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fraud.cli import console
from fraud.cli.backfill import origin_of, read_past, record_path
from fraud.cli.data import Json
from fraud.cli.main import app
from fraud.errors import ConfigError

if TYPE_CHECKING:
    from fraud.backfill import Past
    from fraud.parity import Result
    from fraud.settings import Settings


@app.command()
def parity(
    past: Annotated[
        Path | None,
        typer.Option(help="What the store was loaded with, where it isn't the recorded one: a directory or file."),
    ] = None,
    until: Annotated[str | None, typer.Option(help="With --past: as `backfill --until` had it.")] = None,
    merchants_only: Annotated[
        bool, typer.Option("--merchants-only", help="With --past: profiles alone were loaded.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many messages.")] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for a score job that is still at work.")] = 60.0,
    as_json: Json = False,
) -> None:
    """Prove that the stream's features equal the offline builder's, value by value.

    Reads `transactions`, `fraud_predictions` and `transactions_dlq` from Kafka up to where they end now, and
    computes what must have been said, beginning with the past that `backfill` loaded. Exit 1 if a value
    differs or a prediction is missing.
    """
    if past is None and (until is not None or merchants_only):
        raise ConfigError("--until and --merchants-only go with --past; the recorded past has its own")
    from fraud.parity import check
    from fraud.parity.topics import wait_for_answers

    console.quiet_kafka()
    settings = console.settings()
    loaded = _past(settings, past, until, merchants_only=merchants_only)
    wait_for_answers(settings.kafka_bootstrap, wait)
    result = check(settings, loaded, limit=limit)
    if as_json:
        console.emit(result.report())
    else:
        _tell(result)
    if not result.holds:
        raise typer.Exit(1)


def _past(settings: "Settings", path: Path | None, until: str | None, *, merchants_only: bool) -> "Past | None":
    """Return the past that the options name, else the recorded one, else none."""
    from fraud.backfill.record import check_files, read

    if path is not None:
        from producer.tables import has_tables

        kind = "simulated" if has_tables(path) else "handbook"
        return read_past(origin_of(path, kind, until=until, merchants_only=merchants_only))[0]
    record = read(record_path(settings))
    if record is None:
        return None
    check_files(record)
    return read_past(record.origin)[0]


def _tell(result: "Result") -> None:
    from rich.table import Table

    if result.examples:
        table = Table("partition", "offset", "feature", "stream", "offline", title="What differs (the first ones)")
        for one in result.examples:
            table.add_row(str(one.partition), str(one.offset), one.feature, str(one.stream), str(one.offline))
        console.stderr().print(table)
        for feature, count in result.by_feature.items():
            console.say(f"{feature}: {count:,}")
    missing = result.rows - result.compared - result.stale
    if missing > 0:
        console.say(f"{missing:,} transactions have no prediction; is the score job still at work?")
    console.say(
        f"{result.rows:,} transactions: {result.compared:,} compared, {result.stale:,} stale, "
        f"{result.mismatches:,} mismatches"
    )
