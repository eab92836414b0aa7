"""The commands that send transactions: produce, replay."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fraud.cli.console import SEEDS, emit, quiet_kafka, say, settings, stderr
from fraud.cli.data import Json, duration, moment
from fraud.cli.main import app
from fraud.errors import ConfigError

if TYPE_CHECKING:
    from polars import DataFrame

    from producer.publisher import Published

Rate = Annotated[float | None, typer.Option(help="Messages a second.")]
BadShare = Annotated[float, typer.Option("--bad", help="Share of bad messages to mix in, e.g. 0.001.")]
Validate = Annotated[
    bool,
    typer.Option(
        "--validate/--no-validate",
        help="Check each message with its JSON Schema first; off, a broken row is sent as it is.",
    ),
]


def now_ms() -> int:
    """Return the present, ms since the epoch."""
    return time.time_ns() // 1_000_000


@contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Return an event that Ctrl-C or SIGTERM sets; a second Ctrl-C interrupts at once."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def first(_number: int, _frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for number in before:
        signal.signal(number, first)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress_line(total: int | None) -> "Iterator[Callable[[Published], None]]":
    """Show what is acknowledged on one line of stderr; silent where that is no terminal."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = [SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()]
    if total is not None:
        columns.insert(2, BarColumn())
    with Progress(*columns, console=stderr(), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("connecting", total=total)

        def show(done: "Published") -> None:
            text = f"{done.total:,} acknowledged, {done.bad:,} of them bad, {done.total / done.seconds:,.0f}/s"
            bar.update(task, completed=done.total, description=text)

        yield show


@app.command()
def produce(
    rate: Annotated[float, typer.Option(help="Messages a second, evenly.")] = 10.0,
    seconds: Annotated[float | None, typer.Option(help="End after so many seconds.")] = None,
    count: Annotated[int | None, typer.Option(help="End after so many transactions.", min=1)] = None,
    seed: Annotated[
        int, typer.Option(help="The same seed and numbers give the users of `simulate`.", min=0, max=SEEDS)
    ] = 1,
    users: Annotated[int, typer.Option(help="How many users.")] = 5_000,
    merchants: Annotated[int, typer.Option(help="How many merchants.")] = 1_000,
    bad: BadShare = 0.0,
    labels_after: Annotated[
        str | None, typer.Option(help="Label every fraud so long after it, e.g. 30s; else none is labelled.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Send live transactions that happen now, until Ctrl-C.

    The users are the simulator's. What isn't realistic: a user's pace grows
    with the rate. At 1,000 a second each of 5,000 users buys something every
    five seconds, day and night, and crosses borders between two purchases:
    counts and speeds are far from what a model saw. `replay` sends a past as
    it was.

    Labels are not known when a payment is made: with --labels-after they go
    to `transaction_labels` when their time has come, those that haven't come
    back by the end never.
    """
    if seconds is not None and count is not None:
        raise ConfigError(f"--seconds {seconds:g} and --count {count} exclude each other; give one")
    if seconds is not None and not seconds > 0:
        raise ConfigError(f"--seconds {seconds:g} is no time to send for; give more than 0")
    from producer import pace
    from producer.bad import mix
    from producer.live import Live
    from producer.publisher import publish
    from producer.simulate import Config

    quiet_kafka()
    pace.chosen(rate, None)
    after = None if labels_after is None else round(duration(labels_after).total_seconds() * 1000)
    read = settings()
    live = Live(Config(start=moment("2026-01-01"), seed=seed, users=users, merchants=merchants), now_ms, after)
    messages = mix(islice(live, count), bad, seed=seed, clock=now_ms, max_age_days=read.max_age_days)
    with interrupts() as stop, progress_line(count) as show:
        done = publish(read, live.with_labels(messages), rate=rate, seconds=seconds, stop=stop, progress=show)
    _report(done, as_json, labels=after is not None)


@app.command()
def replay(
    path: Annotated[Path, typer.Argument(help="A directory of `simulate`, or the Handbook's Parquet file.")],
    form: Annotated[Literal["simulated", "handbook"], typer.Option("--format", help="What PATH is.")] = "simulated",
    since: Annotated[str | None, typer.Option(help="Only rows from this time on, UTC.")] = None,
    until: Annotated[str | None, typer.Option(help="Only rows before this time, UTC.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many rows.", min=1)] = None,
    rate: Rate = None,
    speed: Annotated[
        float | None, typer.Option(help="As far apart as they happened, so many times faster; 3600: an hour a second.")
    ] = None,
    bad: BadShare = 0.0,
    seed: Annotated[int, typer.Option(help="Draws the bad messages.", min=0, max=SEEDS)] = 1,
    labels: Annotated[
        bool, typer.Option("--labels", help="Send labels too, each when the rows' time has reached its own.")
    ] = False,
    labels_after: Annotated[
        str | None,
        typer.Option(
            help="With --labels: label every fraud so long after it; else a directory's own labels, the Handbook's 7d."
        ),
    ] = None,
    validate: Validate = True,
    as_json: Json = False,
) -> None:
    """Send a past again: rows with their own timestamps, in arrival order.

    As fast as the machine allows, or paced by --rate or --speed.

    With --labels the verdicts come back as they did: between the rows, in
    the order in which they became known, those that became known after the
    last row at the end. With --since they include verdicts about older rows
    that were still unknown then: `backfill --until` loads those before.

    The score job refuses what is older than FRAUD_MAX_AGE_DAYS: start it with
    FRAUD_MAX_AGE_DAYS= (empty) for a replay.
    """
    if labels_after is not None and not labels:
        raise ConfigError(
            f"--labels-after {labels_after} says when labels become known, and none are sent; add --labels"
        )
    first = None if since is None else moment(since)
    last = None if until is None else moment(until)
    if first is not None and last is not None and first >= last:
        raise ConfigError(f"--since {since} isn't before --until {until}: no row lies between")
    after = None if labels_after is None else duration(labels_after)
    from producer import pace
    from producer import replay as past

    quiet_kafka()
    pace.chosen(rate, speed)
    read = settings()
    found = past.read_past(path, form, since=first, until=last, limit=limit, labels_after=after)
    warning = past.age_warning(found.transactions, read.max_age_days, now_ms())
    if warning is not None:
        say(f"warning: {warning}")
    with interrupts() as stop, progress_line(found.transactions.height) as show:
        done = past.replay(
            read,
            found.transactions,
            _known(found.labels) if labels else None,
            clock=now_ms,
            rate=rate,
            speed=speed,
            bad=bad,
            seed=seed,
            stop=stop,
            progress=show,
            validate=validate,
        )
    _report(done, as_json, labels=labels)
    if stop.is_set():
        raise KeyboardInterrupt


def _known(labels: "DataFrame") -> "DataFrame":
    """Leave out, and say so, what nobody knows yet: the archive job refuses labels from the future."""
    from producer.replay import known_by

    known = known_by(labels, now_ms())
    if known.height < labels.height:
        say(f"{labels.height - known.height:,} of {labels.height:,} labels become known after now: they aren't sent")
    return known


def _report(done: "Published", as_json: bool, *, labels: bool) -> None:
    """Say what Kafka acknowledged."""
    result: dict[str, Any] = {
        "topic": done.topic,
        "valid": done.valid,
        "bad": done.bad,
        "expected": done.expected,
        "offsets": {str(partition): list(ends) for partition, ends in done.offsets.items()},
        "seconds": round(done.seconds, 3),
        "interrupted": done.interrupted,
    }
    if labels:
        result["labels"] = done.labels
    if as_json:
        emit(result)
        return
    rate = f"{done.total / done.seconds:,.0f}/s" if done.seconds > 0 else "at once"
    also = f"; {done.labels:,} labels" if labels else ""
    say(f"{done.valid:,} transactions and {done.bad:,} bad messages in {done.seconds:.1f} s ({rate}){also}")
