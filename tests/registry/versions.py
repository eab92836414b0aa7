"""A registry in a known state for tests."""

from mlflow import MlflowException

from fraud import registry
from fraud.registry.connection import connected
from fraud.registry.look import MEMORY
from fraud.settings import Settings
from tests.bundles import tiny_bundle


def log_versions(settings: Settings, count: int) -> list[registry.RegisteredVersion]:
    """Empty the registry and log `count` versions; version n's bundle has the seed n."""
    empty(settings)
    return [log_version(settings, seed) for seed in range(1, count + 1)]


def empty(settings: Settings) -> None:
    """Delete every version and what is remembered of them."""
    with connected(settings) as client:
        try:
            client.delete_registered_model(registry.MODEL)
        except MlflowException as exc:
            assert exc.error_code == "RESOURCE_DOES_NOT_EXIST", exc


def log_version(settings: Settings, seed: int) -> registry.RegisteredVersion:
    """Log one more version."""
    return registry.log_model(
        settings, tiny_bundle(seed, window={"fit": ["2026-01-01T00:00:00Z", "2026-01-20T00:00:00Z"]}),
        run_name=f"seed {seed}", metrics={"average_precision": 0.7, "f2": 0.6, "recall": 0.5},
        params={}, tags={}, artifacts={},
    )  # fmt: skip


def reset(settings: Settings) -> None:
    """Take every version out of Production and forget what was there."""
    with connected(settings) as client:
        seen = registry.look(settings)
        for version in seen.versions.values():
            for alias in version.aliases:
                client.delete_registered_model_alias(registry.MODEL, alias)
            if version.stage != "None":
                client.transition_model_version_stage(registry.MODEL, version.version, "None")
            for tag in version.tags:
                if tag == registry.REFUSED or tag.startswith(("gate", "promoted_", "rolled_back_")):
                    client.delete_model_version_tag(registry.MODEL, version.version, tag)
        client.delete_registered_model_tag(registry.MODEL, MEMORY)


def state(settings: Settings) -> tuple[str | None, list[str], dict[str, str]]:
    """Return the alias's version, the versions staged in Production, and every version's stage."""
    seen = registry.look(settings)
    return seen.alias, seen.staged, {name: version.stage for name, version in seen.versions.items()}


def set_alias(settings: Settings, version: str) -> None:
    """Move the alias only, as somebody does in the UI."""
    with connected(settings) as client:
        client.set_registered_model_alias(registry.MODEL, registry.ALIAS, version)


def set_stage(settings: Settings, version: str, *, archive: bool) -> None:
    """Move the stage only, as somebody does in the UI."""
    with connected(settings) as client:
        client.transition_model_version_stage(
            registry.MODEL, version, registry.STAGE, archive_existing_versions=archive
        )
