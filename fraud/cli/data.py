"""Commands about data: simulate, produce, replay, backfill, consume."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from fraud.cli.console import SEEDS, emit, say, settings
from fraud.cli.main import app
from fraud.errors import ConfigError

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON line on stdout.")]
LONGEST = timedelta(days=3_650)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """Read a duration such as ``7d``, ``12h``, ``90m``, ``30s``.

    >>> duration("7d")
    datetime.timedelta(days=7)
    """
    try:
        read = timedelta(**{_UNITS[text[-1:]]: float(text[:-1])})
    except (KeyError, ValueError, OverflowError) as exc:
        raise ConfigError(f"{text!r} is not a duration; write for example 7d, 12h, 90m or 30s") from exc
    if not timedelta(0) <= read <= LONGEST:
        raise ConfigError(f"{text!r} is no duration between 0 and {LONGEST.days}d")
    return read


def moment(text: str) -> datetime:
    """Read a date or a time in UTC.

    >>> moment("2026-01-31").isoformat()
    '2026-01-31T00:00:00+00:00'
    """
    try:
        read = datetime.fromisoformat(text)
    except ValueError as exc:
        raise ConfigError(f"{text!r} is not a time; write for example 2026-01-31 or 2026-01-31T10:00Z") from exc
    if not 2000 <= read.year <= 2099:  # as messages have it, and room for a zone
        raise ConfigError(f"{text!r} lies outside of the years 2000 to 2099")
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


@app.command()
def simulate(
    days: Annotated[int, typer.Option(help="How many days to simulate.", min=1, max=3_650)] = 30,
    seed: Annotated[int, typer.Option(help="The same seed gives the same tables.", min=0, max=SEEDS)] = 1,
    out: Annotated[Path, typer.Option(help="The directory for the three tables.")] = Path("simulated"),
    users: Annotated[int, typer.Option(help="How many users.")] = 5_000,
    merchants: Annotated[int, typer.Option(help="How many merchants.")] = 1_000,
    per_day: Annotated[float, typer.Option(help="Transactions per user and day.")] = 2.0,
    start: Annotated[str, typer.Option(help="The first day, UTC.")] = "2026-01-01",
    scenario: Annotated[
        list[str] | None,
        typer.Option(help="Only these fraud scenarios; NAME@DAY begins on that day. Repeatable."),
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="Leave a scenario out. Repeatable.")] = None,
    labels_after: Annotated[
        str | None,
        typer.Option(help="Label every fraud exactly this long after it, e.g. 7d, without errors."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Simulate transactions, labels and the truth: seeded, with named fraud scenarios.

    Writes transactions.parquet (in arrival order), labels.parquet and truth.parquet.
    """
    from producer.scenarios import choose
    from producer.simulate import Config, generate
    from producer.tables import write_tables

    simulation = generate(
        Config(
            start=moment(start),
            days=days,
            seed=seed,
            users=users,
            merchants=merchants,
            per_day=per_day,
            scenarios=choose(scenario or [], without or []),
            labels_after=None if labels_after is None else duration(labels_after),
        )
    )
    read = settings()
    if read.home.absolute() in out.absolute().parents:
        read.make_home()
    write_tables(simulation, out)
    frauds = simulation.truth["scenario"].drop_nulls().value_counts(sort=True)
    result: dict[str, Any] = {
        "directory": str(out),
        "transactions": simulation.transactions.height,
        "frauds": dict(frauds.iter_rows()),
        "fraud_rate": round(simulation.truth["is_fraud"].mean() or 0.0, 5),  # type: ignore[arg-type]
        "labels": simulation.labels.height,
    }
    if as_json:
        emit(result)
    else:
        say(
            f"{result['transactions']:,} transactions, {100 * result['fraud_rate']:.2f} % fraud, "
            f"{result['labels']:,} labels in {out}"
        )
