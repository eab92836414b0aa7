"""Which version is in Production: alias and stage kept in step, moved forward and back.

The memory lies beside what it describes (`fraud.registry.look`), so a restarted watcher and the command line
see the same, and whatever was interrupted half-way is finished by whoever looks next: the tag is written last.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from fraud.errors import StateError
from fraud.registry.admission import Gate, by_hand
from fraud.registry.artefact import fetch
from fraud.registry.connection import MODEL, connected, is_absent, no_version
from fraud.registry.look import ALIAS, KIND, MEMORY, STAGE, Look, Memory, Pending, Version, read
from fraud.registry.turn import turn
from fraud.registry.verdicts import STAGING
from fraud.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

REFUSED = "refused"  # a version's tag: why the watcher doesn't serve it
OVERRULED = "promoted_over"  # a version's tag: what the gate said against it, where it was forced
KEPT = 200  # how many former versions the memory keeps; MLflow's tags hold 5,000 characters


@dataclass(frozen=True)
class Move:
    """What a promotion or a rollback did; `kind` of the promotion by which the version came to Production."""

    version: str
    previous: str | None
    kind: str | None = None


def look(settings: Settings) -> Look:
    """Read the registry; raises ServiceError if it is away."""
    with connected(settings) as client:
        return read(client)


def settle(settings: Settings, seen: Look) -> None:
    """Make alias, stage and memory agree on `seen.production`; raises ServiceError if MLflow is away."""
    if seen.production is not None and not seen.settled:
        with connected(settings) as client:
            _arrive(client, seen, seen.production)


def versions(settings: Settings) -> list[tuple[Version, dict[str, float]]]:
    """Return every version, newest first, with its run's metrics; raises ServiceError."""
    with connected(settings) as client:
        from mlflow import MlflowException

        found = sorted(read(client).versions.values(), key=lambda v: int(v.version), reverse=True)
        rows = []
        for version in found:
            metrics: dict[str, float] = {}
            try:
                if version.run_id:
                    metrics = dict(client.get_run(version.run_id).data.metrics)
            except MlflowException as exc:
                if not is_absent(exc):  # a run may be deleted for good; its version stays
                    raise
            rows.append((version, metrics))
        return rows


def promote(settings: Settings, version: str | None, why: str, *, who: str, at: datetime, gate: Gate = by_hand) -> Move:
    """Put a version (None: the newest) into Production after verifying its bundle and asking the gate.

    Safe to repeat: a version that is there already is only put in order, and a watcher that had refused it
    tries again. Of two at once the second finds what the first has done.

    Raises:
        RefusedError: the gate keeps it out; Production stays as it is.
        StateError: there is no such version, or others move Production all the time.
        ModelError: its bundle is unreadable; Production stays as it is.
        ServiceError: MLflow or its artefact store is away.
    """
    with connected(settings) as client, turn(client, who):
        seen = _mended(client)
        version = _chosen(seen, version)
        bundle = fetch(settings, version)
        memory = seen.memory
        previous = None if memory is None else memory.current
        facts = {"why": why, "by": who, "at": _iso(at)}
        if version == previous:
            kind = seen.versions[version].tags.get(KIND)
        else:
            admission = gate(seen, version, bundle)
            kind = admission.kind
            facts["kind"] = kind
            if admission.overruled is not None:
                facts["over"] = admission.overruled[:1_000]
        _move(client, seen, Pending(version, _after(memory, version), back=False), facts)
        if STAGING in seen.versions[version].aliases:
            client.delete_registered_model_alias(MODEL, STAGING)
    return Move(version, previous, kind)


def _chosen(seen: Look, version: str | None) -> str:
    """Return the version, None meaning the newest; raises StateError where there is none."""
    if version is None:
        if not seen.versions:
            raise StateError(f"no version of {MODEL} is registered; `fraud-detect train --from DIR` makes one")
        return max(seen.versions, key=int)
    if version not in seen.versions:
        raise no_version(version)
    return version


def rollback(settings: Settings, why: str, *, who: str, at: datetime) -> Move:
    """Put back what was in Production before; repeated, it walks further back.

    A rollback that was interrupted is finished first, and that is all. Versions deleted since are passed over.

    Raises:
        StateError: there is nothing to go back to.
        ModelError: the former version's bundle is unreadable; Production stays as it is.
        ServiceError: MLflow or its artefact store is away.
    """
    with connected(settings) as client, turn(client, who):
        seen = read(client)
        pending = None if seen.memory is None else seen.memory.pending
        if seen.memory is not None and pending is not None and pending.back and seen.alias == pending.to:
            previous = seen.memory.current
            _arrive(client, seen, pending.to)
            return Move(pending.to, previous)
        seen = _mended(client)
        before = [] if seen.memory is None else [v for v in seen.memory.before if v in seen.versions]
        if seen.memory is None or not before:
            now = "nothing is" if seen.memory is None else f"version {seen.memory.current} is, and nothing was before,"
            raise StateError(f"{now} in Production: there is nothing to go back to; use `promote --version N`")
        target = before[-1]
        fetch(settings, target)
        facts = {"why": why, "by": who, "at": _iso(at), "from": seen.memory.current}
        _move(client, seen, Pending(target, tuple(before[:-1]), back=True), facts)
        return Move(target, seen.memory.current)


def refuse(settings: Settings, version: str, reason: str | None) -> None:
    """Record why a version isn't served, or with None that it is; raises ServiceError."""
    with connected(settings) as client:
        _tag_refusal(client, version, reason)


def _mended(client: "MlflowClient") -> Look:
    """Return a look in which alias, stage and memory agree."""
    seen = read(client)
    if seen.production is not None and not seen.settled:
        _arrive(client, seen, seen.production)
        seen = read(client)
    return seen


def _move(client: "MlflowClient", seen: Look, pending: Pending, facts: Mapping[str, str]) -> None:
    """Say what is meant, then do it: an interrupted move is told from one that somebody made in the UI."""
    memory = seen.memory
    if memory is not None:
        memory = msgspec.structs.replace(memory, pending=pending)
        client.set_registered_model_tag(MODEL, MEMORY, msgspec.json.encode(memory).decode())
    kind = "rolled_back" if pending.back else "promoted"
    known = seen.versions[pending.to].tags
    for name, value in facts.items():
        client.set_model_version_tag(MODEL, pending.to, f"{kind}_{name}", value)
    if facts.get("kind", "forced") != "forced" and OVERRULED in known:
        client.delete_model_version_tag(MODEL, pending.to, OVERRULED)
    _tag_refusal(client, pending.to, None, known=known)
    _arrive(client, Look(seen.versions, seen.alias, memory), pending.to)


def _arrive(client: "MlflowClient", seen: Look, version: str) -> None:
    """Set alias, stage and memory to `version`, the memory last."""
    stage = seen.versions[version].stage
    if stage == "None":
        client.transition_model_version_stage(MODEL, version, "Staging")
    if seen.alias != version:
        client.set_registered_model_alias(MODEL, ALIAS, version)
    if seen.staged != [version]:
        client.transition_model_version_stage(MODEL, version, STAGE, archive_existing_versions=True)
    memory = Memory(version, _after(seen.memory, version))
    if memory != seen.memory:
        client.set_registered_model_tag(MODEL, MEMORY, msgspec.json.encode(memory).decode())


def _after(memory: Memory | None, version: str) -> tuple[str, ...]:
    """Return what was in Production before `version`, once it is there."""
    if memory is None:
        return ()
    if memory.pending is not None and memory.pending.to == version:
        return memory.pending.before
    before = memory.before if memory.current == version else (*memory.before, memory.current)
    return before[-KEPT:]


def _tag_refusal(
    client: "MlflowClient", version: str, reason: str | None, known: Mapping[str, str] | None = None
) -> None:
    if reason is not None:
        client.set_model_version_tag(MODEL, version, REFUSED, reason[:1_000])
    elif known is None or REFUSED in known:
        client.delete_model_version_tag(MODEL, version, REFUSED)


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
