"""Versions that the registry's and the watcher's tests share."""

from collections.abc import Iterator

import pytest

from fraud import registry
from fraud.settings import Settings
from tests import servers
from tests.registry.versions import log_versions, reset


@pytest.fixture(scope="module")
def logged_versions(mlflow_server: servers.Server, stack_settings: Settings) -> list[registry.RegisteredVersion]:
    """Three versions of three bundles in a registry that holds nothing else."""
    return log_versions(stack_settings, 3)


@pytest.fixture
def three(
    logged_versions: list[registry.RegisteredVersion], stack_settings: Settings
) -> Iterator[list[registry.RegisteredVersion]]:
    """The three versions, none of them in Production and nothing remembered."""
    reset(stack_settings)
    yield logged_versions
    reset(stack_settings)
