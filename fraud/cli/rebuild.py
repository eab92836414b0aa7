"""The command `rebuild`: make the online store from the lake and the topics' tails."""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from fraud.cli import console
from fraud.cli.data import Json
from fraud.cli.main import app
from fraud.errors import ConfigError, StateError, StoreError

if TYPE_CHECKING:
    from fraud.rebuild import Rebuilt
    from fraud.settings import Settings
    from fraud.store.base import Store


@app.command()
def rebuild(
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask before replacing what the store holds.")] = False,
    as_json: Json = False,
) -> None:
    """Make the online store anew: histories, merchant profiles and positions, from the lake and the topics' tails.

    For a store that was deleted, damaged or is an older copy. Stop the score job and the archive job first; started
    again, they go on where the published answers end, and score as if nothing had happened. The model stays.
    """
    from dataclasses import asdict

    from fraud.lake import open_lake
    from fraud.rebuild import rebuild as make
    from fraud.store import open_store

    console.quiet_kafka()
    settings = console.settings()
    _check_past(settings)
    settings.make_home()
    store = open_store(settings)
    try:
        if not yes:
            _confirm(settings, store)
        rebuilt = make(settings, store, open_lake(settings), clock=_clock, say=console.say)
    finally:
        store.close()
    if as_json:
        console.emit(asdict(rebuilt))
    else:
        _tell(rebuilt)


def _check_past(settings: "Settings") -> None:
    """Refuse where a past was loaded into the store alone: no lake gives it back."""
    from fraud.backfill.record import read
    from fraud.cli.backfill import record_path

    record = read(record_path(settings))
    if record is not None and not record.loaded.archived:
        raise StateError(
            f"the past of {record.origin.path} was loaded into the online store alone, not into the lake: a rebuild "
            f"would leave it out. Load it again: `fraud-detect backfill {record.origin.path} --wipe`"
        )


def _confirm(settings: "Settings", store: "Store") -> None:
    """Ask before something is replaced, on a terminal; elsewhere --yes is the only way."""
    from fraud.settings import without_secrets

    if not _holds_something(store):
        return
    what = (
        f"This replaces the histories and profiles in the online store {without_secrets(settings.store_url)} by what "
        f"the lake {settings.lake_uri} and the topics hold."
    )
    if not sys.stdin.isatty():
        raise ConfigError(f"{what} Say --yes to do so without being asked")
    if not typer.confirm(f"{what} Go on?", err=True):
        raise typer.Abort


def _holds_something(store: "Store") -> bool:
    try:
        return bool(store.histories.positions()) or store.profiles.through() is not None
    except StoreError:  # damaged, or of an older version: just what a rebuild is for
        return True


def _clock() -> int:
    return time.time_ns() // 1_000_000


def _tell(rebuilt: "Rebuilt") -> None:
    console.say(f"{rebuilt.users:,} users' histories from {rebuilt.rows:,} transactions")
    if rebuilt.profile_through is not None:
        console.say(f"{rebuilt.merchants:,} merchant profiles, up to {rebuilt.profile_through}")
    places = ", ".join(f"{position:,} (partition {number})" for number, position in rebuilt.positions.items())
    console.say(f"the stream goes on at {places} ({rebuilt.seconds:.1f} s)")
    if rebuilt.collected:
        console.say(f"{rebuilt.collected:,} transactions were collected without a model, and get no decision")
    if rebuilt.expired:
        console.say(f"{rebuilt.expired:,} offsets have no answer, and the topic doesn't hold them any more")
