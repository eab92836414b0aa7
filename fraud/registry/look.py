"""One look at the registry: every version, alias, stage, and what the registry remembers of them.

People move alias and stage in MLflow's UI. The registered model's tag `production` remembers what both were
when they last agreed, and what was in Production before; whichever differs from it has been moved.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from fraud.registry.connection import MODEL, is_absent

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALIAS = "Production"
STAGE = "Production"
MEMORY = "production"  # the registered model's tag
KIND = "promoted_kind"  # a version's tag: first, better, as_good, forced or manual
RAISED_THE_BAR = ("first", "better")
PAGE = 200


class Pending(msgspec.Struct, frozen=True):
    """A move that was begun: it counts as soon as the alias has arrived at `to`."""

    to: str
    before: tuple[str, ...]
    back: bool  # a rollback


class Memory(msgspec.Struct, frozen=True):
    """What alias and stage were when they last agreed; `before` was in Production earlier, oldest first."""

    current: str
    before: tuple[str, ...] = ()
    pending: Pending | None = None


@dataclass(frozen=True)
class Version:
    """What the registry says of one version."""

    version: str
    stage: str
    aliases: tuple[str, ...]
    created_at: int  # ms since the epoch
    updated_at: int  # of stage and description; ms since the epoch
    run_id: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Look:
    """The registry at one moment."""

    versions: Mapping[str, Version]
    alias: str | None
    memory: Memory | None

    @property
    def staged(self) -> list[str]:
        """The versions whose stage is Production, the one moved there last at the end."""
        held = [version for version in self.versions.values() if version.stage == STAGE]
        return [version.version for version in sorted(held, key=lambda v: (v.updated_at, int(v.version)))]

    @property
    def stage(self) -> str | None:
        """The stage's choice: of several versions one that wasn't in Production before, the newest move."""
        current = None if self.memory is None else self.memory.current
        moved = [version for version in self.staged if version != current]
        return moved[-1] if moved else (current if self.staged else None)

    @property
    def production(self) -> str | None:
        """The version that belongs in Production, None if neither alias nor stage names one.

        Whichever moved counts, the alias before the stage; one that was taken away names nothing, so the
        other keeps its version. Without a memory: the alias, else the stage.
        """
        current = None if self.memory is None else self.memory.current
        named = [version for version in (self.alias, self.stage) if version is not None]
        return next((version for version in named if version != current), named[0] if named else None)

    @property
    def reference(self) -> str | None:
        """The last version that was promoted for being better, of those in Production now and before.

        Without one the first that is remembered: one as good as its champion is measured against it too, so
        that many such steps don't lead downwards. None: nothing was ever in Production.
        """
        if self.memory is None:
            return None
        past = [name for name in (*self.memory.before, self.memory.current) if name in self.versions]
        better = [name for name in past if self.versions[name].tags.get(KIND) in RAISED_THE_BAR]
        return better[-1] if better else next(iter(past), None)

    @property
    def settled(self) -> bool:
        """Whether alias, stage and memory agree."""
        at = self.production
        return at is None or (
            self.alias == at and self.staged == [at] and self.memory is not None and self.memory.current == at
        )


def read(client: "MlflowClient") -> Look:
    """Read the registry; one that holds nothing yet is empty. MLflow's errors pass through."""
    from mlflow import MlflowException

    try:
        model = client.get_registered_model(MODEL)
    except MlflowException as exc:
        if is_absent(exc):
            return Look({}, None, None)
        raise
    names: dict[str, list[str]] = {}
    for alias, version in model.aliases.items():
        names.setdefault(str(version), []).append(alias)
    alias = model.aliases.get(ALIAS)
    found = {str(row.version): _version(row, names.get(str(row.version), [])) for row in _pages(client)}
    alias = None if alias is None or str(alias) not in found else str(alias)
    memory = _memory(model.tags.get(MEMORY))
    return Look(found, alias, memory)


def _pages(client: "MlflowClient") -> list[Any]:
    rows: list[Any] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name='{MODEL}'", max_results=PAGE, page_token=token)
        rows.extend(page)
        token = page.token
        if not token:
            return rows


def _version(row: Any, aliases: list[str]) -> Version:
    return Version(
        version=str(row.version),
        stage=str(row.current_stage),
        aliases=tuple(sorted(aliases)),
        created_at=int(row.creation_timestamp),
        updated_at=int(row.last_updated_timestamp or row.creation_timestamp),
        run_id=str(row.run_id or ""),
        tags=dict(row.tags),
    )


def _memory(raw: str | None) -> Memory | None:
    """Read the tag; somebody may have edited it, and then it remembers nothing."""
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=Memory)
    except msgspec.MsgspecError:
        return None
