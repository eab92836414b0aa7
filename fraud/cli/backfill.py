"""The command `backfill`: load a past into the lake and the online store."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fraud.cli import console
from fraud.cli.data import Json, duration, moment
from fraud.cli.main import app
from fraud.errors import ConfigError

if TYPE_CHECKING:
    from fraud.backfill import Past
    from fraud.backfill.record import File, Loaded, Origin
    from fraud.lake import Lake
    from fraud.settings import Settings

HANDBOOK_LABELS_AFTER = "7d"  # the book's protocol


@app.command()
def backfill(
    path: Annotated[Path, typer.Argument(help="A directory that `simulate` wrote, or the Handbook's file.")],
    until: Annotated[
        str | None,
        typer.Option(help="Histories end before this time (UTC); merchant profiles know all, each change in its time."),
    ] = None,
    merchants_only: Annotated[
        bool, typer.Option("--merchants-only", help="Load merchant profiles alone; users begin without history.")
    ] = False,
    kind: Annotated[
        str, typer.Option("--format", help="simulated, or handbook (the Fraud Detection Handbook's Parquet file).")
    ] = "simulated",
    labels_after: Annotated[
        str | None, typer.Option(help="Handbook: how long after it a fraud becomes known; 7d if not given.")
    ] = None,
    wipe: Annotated[
        bool,
        typer.Option(
            "--wipe",
            help="Empty store and lake first: histories, profiles, positions, tables, training sets and the jobs' "
            "checkpoints.",
        ),
    ] = False,
    no_lake: Annotated[
        bool, typer.Option("--no-lake", help="Leave the lake alone; load the online store only.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask before wiping.")] = False,
    as_json: Json = False,
) -> None:
    """Load a past into the lake, and into the online store: users' histories and merchant profiles.

    Stop the score job and the archive job first. Refused where store or lake hold a past already (but with
    --wipe), or where transactions lie beyond now. With the lake the past ends at --until: what comes later is
    streamed. Where S3 isn't up the online store alone is loaded, and `dataset` won't know the past. The past's
    files are recorded, so that `parity` finds them by itself.
    """
    from fraud.backfill import Archive, load
    from fraud.backfill.record import Record, query_of, write
    from fraud.store import open_store
    from fraud.times import format_time

    console.quiet_kafka()
    settings = console.settings()
    origin = origin_of(path, kind, labels_after, until=until, merchants_only=merchants_only)
    partitions = 1 if merchants_only else _partitions(settings)
    past, files = read_past(origin)
    lake = None if merchants_only or no_lake else _lake(settings, wipe=wipe)
    if wipe and not yes:
        _confirm(settings, lake)

    def keep(loaded: "Loaded | None") -> None:
        record = None if loaded is None else Record(origin, files, loaded, format_time(_clock()))
        write(record_path(settings), record)

    settings.make_home()
    store = open_store(settings)
    try:
        loaded = load(
            past,
            store,
            partitions=partitions,
            clock=_clock,
            wipe=wipe,
            checkpoints=[settings.checkpoint] if lake is None else [settings.checkpoint, _archive_checkpoint(settings)],
            archive=None if lake is None else Archive(lake, query_of(files)),
            say=console.say,
            keep=keep,
        )
    finally:
        store.close()
    _tell(loaded, merchants_only=merchants_only, wipe=wipe, as_json=as_json)


def origin_of(
    path: Path, kind: str, labels_after: str | None = None, *, until: str | None = None, merchants_only: bool = False
) -> "Origin":
    """Return what the options name.

    Raises:
        ConfigError: an unknown format, or options that contradict each other.
    """
    from fraud.backfill.record import Origin
    from fraud.times import format_time

    if until is not None and merchants_only:
        raise ConfigError("--until ends histories, and --merchants-only loads none: leave one of them out")
    end = None if until is None else format_time(int(moment(until).timestamp() * 1000))
    if kind == "handbook":
        after = labels_after or HANDBOOK_LABELS_AFTER
        duration(after)
        return Origin(str(path.absolute()), "handbook", after, end, merchants_only)
    if kind != "simulated":
        raise ConfigError(f"--format {kind} is unknown: write simulated or handbook")
    if labels_after is not None:
        raise ConfigError("--labels-after is for --format handbook; a simulated directory has its own labels")
    return Origin(str(path.absolute()), "simulated", None, end, merchants_only)


def read_past(origin: "Origin") -> "tuple[Past, tuple[File, ...]]":
    """Read a past, and what identifies its files.

    Raises:
        ConfigError: there is no such file.
        DataError: a file breaks its contract.
    """
    from fraud.backfill import Past
    from fraud.backfill.record import fingerprint
    from fraud.times import parse_time

    path = Path(origin.path)
    until = None if origin.until is None else parse_time(origin.until)
    if origin.format == "handbook":
        from fraud.handbook import handbook_labels, read_handbook

        transactions = read_handbook(path)
        labels = handbook_labels(path, duration(origin.labels_after or HANDBOOK_LABELS_AFTER))
        paths = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        return Past(transactions, labels, until, origin.merchants_only), tuple(map(fingerprint, paths))
    from producer.tables import read_table

    transactions, labels = read_table(path, "transactions"), read_table(path, "labels")
    files = tuple(fingerprint(path / f"{name}.parquet") for name in ("transactions", "labels"))
    return Past(transactions, labels, until, origin.merchants_only), files


def record_path(settings: "Settings") -> Path:
    """Return where the record of the last backfill lies."""
    return settings.data / "backfill.json"


def _partitions(settings: "Settings") -> int:
    """Return the partitions that histories belong to: the topic's, or those it will be made with by `up`."""
    from fraud import bus

    if not bus.is_ready(settings.kafka_bootstrap):
        count = settings.topic_partitions
        console.say(f"Kafka isn't up: histories are laid out for {count} partitions, as `up` makes them")
        return count
    return bus.partitions(settings.kafka_bootstrap, bus.TRANSACTIONS)


def _lake(settings: "Settings", *, wipe: bool) -> "Lake | None":
    """Return the lake, None where S3 isn't up: a past can be loaded before `up`."""
    from fraud.lake import open_lake

    lake = open_lake(settings)
    if lake.place.is_reached():
        return lake
    stays = "nor is what it holds removed: " if wipe else ""
    console.say(
        f"the lake {lake.place.uri} isn't reached, S3 isn't up: the past goes into the online store alone, {stays}no "
        "training set will know it. To have it there, run `fraud-detect up`, stop the jobs, and load it with --wipe"
    )
    return None


def _archive_checkpoint(settings: "Settings") -> Path:
    return settings.data / "checkpoints" / "archive"


def _clock() -> int:
    return time.time_ns() // 1_000_000


def _confirm(settings: "Settings", lake: "Lake | None") -> None:
    """Ask on a terminal; elsewhere --yes is the only way."""
    from fraud.settings import without_secrets

    store = without_secrets(settings.store_url)
    what = f"This empties the online store {store} and removes the checkpoint {settings.checkpoint}."
    if lake is not None:
        what += (
            f" It removes the lake's tables and training sets at {lake.place.uri}, and the archive job's checkpoint."
        )
    if not sys.stdin.isatty():
        raise ConfigError(f"{what} Say --yes to do so without being asked")
    if not typer.confirm(f"{what} Go on?", err=True):
        raise typer.Abort


def _tell(loaded: "Loaded", *, merchants_only: bool, wipe: bool, as_json: bool) -> None:
    import msgspec

    if as_json:
        console.emit(msgspec.to_builtins(loaded) | {"wiped": wipe})
        return
    if wipe:
        console.say(
            "the store was emptied; its positions and Spark's checkpoint are gone too: `score` begins at the start "
            "of the topic, or with --from latest at its end"
        )
    if loaded.archived:
        console.say(f"{loaded.archived:,} transactions in the lake")
    if not merchants_only:
        console.say(f"{loaded.users:,} users' histories from {loaded.rows:,} transactions")
    console.say(
        f"{loaded.merchants:,} merchant profiles with {loaded.changes:,} changes, up to {loaded.profile_through} "
        f"({loaded.seconds:.1f} s)"
    )
