"""Commands about the registry: models, promote, rollback."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fraud.cli.console import emit, say, settings, stderr
from fraud.cli.main import app

if TYPE_CHECKING:
    from fraud.registry import Move

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON line on stdout.")]
Why = Annotated[str, typer.Option(help="The reason; it is kept with the version.")]
METRICS = {"average_precision": "AP", "f2": "F2", "recall": "recall"}
WIDTH = 125


@app.command()
def models(as_json: Json = False) -> None:
    """List the registered versions, newest first: stage, aliases, metrics, what the gate said, training window."""
    from fraud import registry

    rows = [_row(version, metrics) for version, metrics in registry.versions(settings())]
    if as_json:
        emit({"model": registry.MODEL, "versions": rows})
    elif rows:
        _table(rows)
    else:
        say(f"no version of {registry.MODEL} is registered; `fraud-detect train --from DIR` makes one")


@app.command()
def promote(
    version: Annotated[int | None, typer.Option(min=1, help="The version; without it, the newest.")] = None,
    why: Why = "by hand",
    force: Annotated[bool, typer.Option("--force", help="Whatever the gate says; that is recorded.")] = False,
    if_better: Annotated[
        bool, typer.Option("--if-better", help="Exit 0 where the gate keeps it out: the champion stays.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put a version into Production: alias and stage; the running score job swaps within seconds.

    The first model has to be better than chance. After that `judge` must have said that the version is better
    than the one in Production now, or as good as an old one. The bundle is fetched and verified first; one
    that can't be served is refused.
    """
    from fraud import registry
    from fraud.errors import RefusedError
    from fraud.registry.admission import forced, judged

    chosen = None if version is None else str(version)
    who, at = _signature()
    gate = forced if force else judged
    try:
        move = registry.promote(settings(), chosen, why, who=who, at=at, gate=gate)
    except RefusedError as exc:
        if not if_better:
            raise
        _report_kept(chosen, registry.look(settings()).production, str(exc), as_json)
    else:
        _report(move, as_json, outcome="promoted", kind=move.kind)


@app.command()
def rollback(why: Why = "by hand", as_json: Json = False) -> None:
    """Put back what was in Production before; again, and it goes one further back."""
    from fraud import registry

    who, at = _signature()
    _report(registry.rollback(settings(), why, who=who, at=at), as_json)


def _signature() -> tuple[str, Any]:
    """Return who moves Production, and when."""
    import getpass
    import os
    import socket
    from datetime import UTC, datetime

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}", datetime.now(UTC)


def _report(move: "Move", as_json: bool, **more: Any) -> None:
    if as_json:
        emit({"version": move.version, "previous": move.previous, **more})
    elif move.previous == move.version:
        say(f"version {move.version} was in Production already")
    else:
        before = "nothing" if move.previous is None else f"version {move.previous}"
        say(f"version {move.version} is in Production; before it, {before} was")


def _report_kept(version: str | None, production: str | None, reason: str, as_json: bool) -> None:
    """Say that Production stays as it is: for a DAG a result, not a failure."""
    if as_json:
        emit({"version": version, "previous": production, "outcome": "kept", "kind": None, "reasons": [reason]})
    else:
        say(f"Production stays as it is: {reason}")


def _row(version: Any, metrics: dict[str, float]) -> dict[str, Any]:
    from datetime import UTC, datetime

    created = datetime.fromtimestamp(version.created_at / 1000, UTC)
    return {
        "version": version.version,
        "stage": version.stage,
        "aliases": list(version.aliases),
        "created": created.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "metrics": metrics,
        "window": version.tags.get("window"),
        "sha256": version.tags.get("sha256"),
        "refused": version.tags.get("refused"),
        "gate": version.tags.get("gate"),
        "promoted": version.tags.get("promoted_kind"),
    }


def _table(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in ("version", "stage", "aliases", "created", *METRICS.values(), "gate", "window"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        scores = [row["metrics"].get(name) for name in METRICS]
        table.add_row(
            row["version"],
            row["stage"],
            ", ".join(row["aliases"]),
            row["created"],
            *("" if score is None else f"{score:.3f}" for score in scores),
            row["promoted"] or row["gate"] or "",
            _window(row["window"]),
        )
    console = stderr()
    # Wider than a narrow terminal rather than cut: a date without its end is none.
    console.width = max(console.width, WIDTH)
    console.print(table)
    for row in rows:
        if row["refused"]:
            say(f"version {row['version']} is refused by the watcher: {row['refused']}")


def _window(raw: str | None) -> str:
    """Return the days that a training window spans, from the JSON of its tag.

    >>> _window('{"fit": ["2026-01-01T00:00:00Z", "2026-01-20T00:00:00Z"], "rows": 7}')
    '2026-01-01 to 2026-01-20'
    """
    import re

    days = sorted(re.findall(r"\d{4}-\d{2}-\d{2}", raw or ""))
    return f"{days[0]} to {days[-1]}" if days else ""
