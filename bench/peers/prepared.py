"""What a worker reads once at its start: the model for one row, and every merchant's profile."""

from pathlib import Path

import msgspec

from bench.peers.one_row import OneRow
from bench.peers.onnx_model import MODEL, TERMS, Terms, session
from fraud import profiles
from fraud.codec import format_time
from fraud.store.base import Store


def one_row(store: Store, folder: Path) -> OneRow:
    """Return what scores with the converted model in `folder` and the profiles in `store`."""
    through = store.profiles.through()
    return OneRow(
        session((folder / MODEL).read_bytes()),
        msgspec.json.decode((folder / TERMS).read_bytes(), type=Terms),
        {merchant: profiles.unpack([packed]) for merchant, packed in store.profiles.merchants()},
        None if through is None else format_time(through * profiles.QUARTER_MS),
    )
