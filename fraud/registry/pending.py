"""A trained model on its way into the registry: kept in a file until it is a version.

A server that goes away at that moment costs no training: the same command with --reuse registers what was kept.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from fraud.errors import FraudError, ServiceError
from fraud.features import FEATURE_VERSION
from fraud.model import Bundle
from fraud.registry.artefact import RegisteredVersion, log_model
from fraud.registry.candidates import Tried
from fraud.settings import Settings

FOLDER = "trained"
KEPT = 5  # of the newest; one whose training is never asked for again isn't kept for ever


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """What a version is made of, whole.

    Attributes:
        key: names the training (`training_key`).
        bundle: `Bundle.to_bytes`.
        result: what the command prints of it.
        run_name, metrics, params, tags, artifacts: as `log_model` takes them.
        candidates: of the search, in the order of their trial.
    """

    key: str
    bundle: bytes
    result: dict[str, Any]
    run_name: str
    metrics: dict[str, float]
    params: dict[str, str]
    tags: dict[str, str]
    artifacts: dict[str, bytes]
    candidates: tuple[Tried, ...] = ()


def training_key(asked: Mapping[str, Any]) -> str:
    """Return the hash that names a training: what it was asked for, and by which definition of the features."""
    return hashlib.sha256(json.dumps({**asked, "features": FEATURE_VERSION}, sort_keys=True).encode()).hexdigest()


def register(settings: Settings, submission: Submission) -> RegisteredVersion:
    """Keep a submission, make it a version, and forget it.

    Raises:
        ServiceError: MLflow or its artefact store is away; the submission is kept.
    """
    path = keep(settings, submission)
    try:
        version = log_model(
            settings,
            Bundle.from_bytes(submission.bundle),
            run_name=submission.run_name,
            metrics=submission.metrics,
            params=submission.params,
            tags=submission.tags,
            artifacts=submission.artifacts,
            candidates=submission.candidates,
        )
    except ServiceError as exc:
        raise ServiceError(
            f"{exc}. The trained model is kept in {path}: the same command with --reuse registers it, without training"
        ) from exc
    forget(settings, submission.key)
    return version


def forget(settings: Settings, key: str) -> None:
    """Remove what was kept of a training that is registered."""
    _path(settings, key).unlink(missing_ok=True)


def keep(settings: Settings, submission: Submission) -> Path:
    """Write a submission, whole or not at all; return where."""
    path = _path(settings, submission.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}")
    beside.write_bytes(msgspec.msgpack.encode(submission))
    beside.replace(path)
    newest = sorted(path.parent.glob("*.msgpack"), key=lambda each: each.stat().st_mtime_ns, reverse=True)
    for old in newest[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def kept(settings: Settings, key: str) -> Submission | None:
    """Return the submission of a training that couldn't be registered; None: there is none that can be read."""
    try:
        found = msgspec.msgpack.decode(_path(settings, key).read_bytes(), type=Submission)
        Bundle.from_bytes(found.bundle)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError, FraudError):
        return None  # damaged is as good as none: the training is repeated, with the same bytes
    return found


def _path(settings: Settings, key: str) -> Path:
    return settings.data / FOLDER / f"{key}.msgpack"
