"""The command `consume`: watch what is decided, or pipe it on."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fraud.cli.console import quiet_kafka, say, settings
from fraud.cli.main import app
from fraud.cli.produce import interrupts
from fraud.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from fraud.consuming import Answer, Tally
    from fraud.settings import Settings

_DECISIONS = {"APPROVE": "green", "REVIEW": "yellow", "BLOCK": "red"}
_REFRESH_S = 0.5
_NONE = "-"


@app.command()
def consume(
    topic: Annotated[Literal["predictions", "rejections"], typer.Option(help="What to read.")] = "predictions",
    start: Annotated[
        Literal["beginning", "end"] | None,
        typer.Option("--from", help="Where to begin; else where the group was, the first time at the beginning."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many messages.")] = None,
    decision: Annotated[str | None, typer.Option(help="Only these decisions, e.g. REVIEW,BLOCK.")] = None,
    group: Annotated[str, typer.Option(help="The consumer group, whose members share the messages.")] = "fraud-consume",
    as_json: Annotated[
        bool, typer.Option("--json", help="One message a line on stdout, as it is on the topic.")
    ] = False,
) -> None:
    """Watch predictions (or rejections) as they come, until Ctrl-C.

    In a terminal a live table; piped, a line each: words for people, or with
    --json the messages themselves (`fraud-detect consume --json | jq`).
    """
    from fraud import bus
    from fraud.consuming import follow

    wanted = _decisions(decision)
    if wanted is not None and topic == "rejections":
        raise ConfigError(f"--decision {decision} chooses predictions; rejections have none")
    name = bus.PREDICTIONS if topic == "predictions" else bus.DLQ
    quiet_kafka()
    read = settings()
    left = limit
    with (
        interrupts() as stop,
        follow(read, name, group=group, start=start) as follower,
        _shown(read, topic, as_json) as show,
    ):
        while not stop.is_set() and left != 0:
            found = follower.poll()
            chosen = [each for each in found if wanted is None or each.message.get("decision") in wanted]
            if left is not None:
                if len(chosen) >= left:
                    last = chosen[left - 1]
                    found = found[: found.index(last) + 1]
                chosen = chosen[:left]
                left -= len(chosen)
            if not show(chosen):
                break
            follower.shown(found, name)
    if follower.unreadable:
        say(f"{follower.unreadable:,} messages on {name} are no JSON objects and were left out")


def _decisions(text: str | None) -> set[str] | None:
    if text is None:
        return None
    wanted = {each.strip().upper() for each in text.split(",")}
    unknown = sorted(wanted - set(_DECISIONS))
    if unknown:
        raise ConfigError(f"--decision {', '.join(unknown)}: there are {', '.join(_DECISIONS)}")
    return wanted


@contextmanager
def _shown(read: "Settings", topic: str, as_json: bool) -> "Iterator[Callable[[list[Answer]], bool]]":
    """Give what shows answers; it returns False when nobody reads any more."""
    if as_json or not sys.stdout.isatty():
        yield (
            _as_json if as_json else lambda answers: _written("".join(f"{_line(each)}\n" for each in answers).encode())
        )
        return
    from rich.console import Console
    from rich.live import Live

    from fraud.consuming import Tally, latencies

    tally = Tally("decision" if topic == "predictions" else "reason")
    refreshed = 0.0
    with ExitStack() as stack:
        sampler = stack.enter_context(latencies(read)) if topic == "predictions" else None
        live = stack.enter_context(Live(console=Console(), auto_refresh=False))

        def show(answers: "list[Answer]") -> bool:
            nonlocal refreshed
            now = time.monotonic()
            if answers:
                tally.add(answers, now)
            if now - refreshed >= _REFRESH_S:
                refreshed = now
                if sampler is not None and answers:
                    tally.latencies_ms.extend(sampler.sample(answers))
                live.update(_table(tally, now), refresh=True)
            return True

        yield show
        live.update(_table(tally, time.monotonic()), refresh=True)


def _as_json(answers: "list[Answer]") -> bool:
    return _written(b"".join(each.raw + b"\n" for each in answers))


def _written(lines: bytes) -> bool:
    """Write to stdout; False where the reader has gone."""
    try:
        sys.stdout.buffer.write(lines)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # The interpreter flushes once more at its end: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _printable(value: object) -> str:
    """Return text that a terminal can't take for a command."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))


def _number(value: object, digits: int) -> str:
    return f"{value:,.{digits}f}" if isinstance(value, int | float) else _NONE


def _cells(answer: "Answer") -> list[str]:
    """Return an answer's cells: the kind first."""
    message, source = answer.message, answer.message.get("source") or {}
    where = f"{source.get('partition')}:{source.get('offset')}"
    if "decision" in message:
        cells = [
            message["decision"],
            str(message.get("scored_at"))[11:23],
            _number(message.get("fraud_probability"), 4),
            _number(message.get("amount"), 2),
            _number(message.get("rolling_avg_7d"), 2),
            message.get("user_id"),
            message.get("merchant_id"),
            f"v{message.get('model_version')}",
            where,
        ]
    else:
        cells = [
            message.get("reason"),
            str(message.get("rejected_at"))[11:23],
            message.get("field") or _NONE,
            _number(message.get("length"), 0),
            where,
            str(message.get("detail"))[:100],
        ]
    return [_printable(cell) for cell in cells]


def _line(answer: "Answer") -> str:
    return "  ".join(_cells(answer))


def _table(tally: "Tally", now: float) -> "Table":
    """Return the live table: counts, rate and latency above, the newest answers below."""
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{tally.total:,} {'predictions' if tally.kind == 'decision' else 'rejections'}")
    for name, count in tally.counts.most_common(6):
        title.append(f"  {_printable(name)} {count:,}", style=_DECISIONS.get(name, ""))
    title.append(f"  {tally.rate(now):,.0f}/s")
    median, tail = tally.percentile_ms(50), tally.percentile_ms(99)
    if median is not None and tail is not None:
        title.append(f"  latency p50 {median:,.0f} ms, p99 {tail:,.0f} ms")
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    names: tuple[str, ...]
    if tally.kind == "decision":
        names = ("decision", "at", "probability", "amount", "7 d mean", "user", "merchant", "model", "source")
        numbers = {"probability", "amount", "7 d mean"}
    else:
        names = ("reason", "at", "field", "bytes", "source", "detail")
        numbers = {"bytes"}
    for name in names:
        table.add_column(name, justify="right" if name in numbers else "left", no_wrap=True)
    for answer in tally.newest:
        cells = _cells(answer)
        table.add_row(*(Text(cell, style=_DECISIONS.get(cells[0], "")) for cell in cells))
    return table
