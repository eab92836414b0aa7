"""`down --wipe`: remove what a stack has stored, once nobody uses it any more."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fraud.errors import StateError
from fraud.settings import Settings
from fraud.stack import processes
from fraud.stack.stored import store_folder

if TYPE_CHECKING:
    import psutil

STORE_PARTS = ("histories", "profiles", "serving")


def stored(settings: Settings) -> list[Path]:
    """Return the folders that a wipe removes, those that exist: data/, and the parts of a store elsewhere."""
    folders = [settings.data.absolute()]
    store = store_folder(settings)
    if store is not None and not store.is_relative_to(settings.data.absolute()):
        folders += [store / part for part in STORE_PARTS]
    return [folder for folder in folders if folder.exists()]


def require_unused(settings: Settings, besides: Iterable["psutil.Process"] = ()) -> None:
    """Raise StateError, naming it, if a process that `up` didn't start uses a file there.

    Args:
        besides: the stack's own processes, which end before anything is removed.
    """
    own = {process.pid for process in besides}
    users = [each for folder in stored(settings) for each in processes.users_of(folder) if each.pid not in own]
    if users:
        raise StateError(
            f"{processes.describe(users[0])} uses files in {settings.home.absolute()}, and `up` didn't start it; "
            "stop it first. Nothing was removed"
        )


def wipe(settings: Settings) -> list[Path]:
    """Remove what is stored and return which folders; cache and logs stay.

    Raises:
        StateError: as `require_unused`.
    """
    require_unused(settings)
    folders = stored(settings)
    for folder in folders:
        shutil.rmtree(folder)
    return folders
