"""A trained model that waits for its registry: whole or not there, and never for ever."""

import os
from pathlib import Path

import msgspec
import pytest

from fraud.model import MANIFEST, Bundle
from fraud.registry import Tried, pending
from fraud.registry.pending import Submission, forget, keep, kept, training_key
from fraud.settings import Settings
from tests.bundles import tiny_bundle


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load({}, home=tmp_path)


def submission(seed: int = 0) -> Submission:
    return Submission(
        key=training_key({"rows": "some", "seed": seed}),
        bundle=tiny_bundle(seed).to_bytes(),
        result={"rows": 7, "search": None},
        run_name="train",
        metrics={"f2": 0.5},
        params={"trees": "20"},
        tags={"training": "x"},
        artifacts={"report.json": b"{}"},
        candidates=(Tried(params={"trees": "20"}, metrics={}, failed=True),),
    )


def test_what_is_kept_comes_back_until_it_is_forgotten(settings: Settings) -> None:
    sent = submission()
    assert kept(settings, sent.key) is None
    keep(settings, sent)
    keep(settings, sent)
    assert kept(settings, sent.key) == sent
    assert kept(settings, submission(1).key) is None
    forget(settings, sent.key)
    forget(settings, sent.key)
    assert kept(settings, sent.key) is None


@pytest.mark.parametrize("damage", [lambda raw: raw[:-100], lambda _: b"", lambda raw: raw[100:]])
def test_what_is_damaged_counts_as_not_kept(settings: Settings, damage: "object") -> None:
    path = keep(settings, submission())
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert kept(settings, submission().key) is None


def test_a_bundle_that_other_code_made_counts_as_not_kept(settings: Settings) -> None:
    sent = submission()
    files = Bundle.from_bytes(sent.bundle).files() | {MANIFEST: b"{}"}
    keep(settings, msgspec.structs.replace(sent, bundle=msgspec.msgpack.encode(files)))
    assert kept(settings, sent.key) is None


def test_only_the_newest_are_kept(settings: Settings) -> None:
    for seed in range(pending.KEPT + 2):
        os.utime(keep(settings, submission(seed)), (seed, seed))
    keep(settings, submission(99))
    there = [seed for seed in (*range(pending.KEPT + 2), 99) if kept(settings, submission(seed).key) is not None]
    assert there == [*range(3, pending.KEPT + 2), 99]


def test_a_training_is_named_by_all_that_was_asked() -> None:
    assert training_key({"rows": "a", "seed": 1}) == training_key({"seed": 1, "rows": "a"})
    assert len({training_key({"rows": rows, "seed": seed}) for rows in "ab" for seed in (1, 2)}) == 4
