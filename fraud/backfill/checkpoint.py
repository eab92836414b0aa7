"""Remove a streaming query's checkpoint: what a store that begins anew doesn't go on from."""

import shutil
from pathlib import Path

from fraud.errors import StateError


def remove(checkpoint: Path) -> None:
    """Remove the folder, if there is one.

    Raises:
        StateError: it can't be removed.
    """
    try:
        if checkpoint.exists():
            shutil.rmtree(checkpoint)
    except OSError as exc:
        raise StateError(f"the checkpoint {checkpoint} can't be removed ({exc}): remove it, and begin again") from exc
