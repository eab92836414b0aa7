"""Session-wide servers: started once, by the first test that asks for them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from fraud.lake import Lake, open_lake
from fraud.settings import Settings
from tests import servers

# Two files at once on two cores: OpenMP's threads that wait actively would take each other's time (as in `train`).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# No test fails for the time an example takes: two files run at once, and the first example compiles kernels.
hypothesis_settings.register_profile("busy", deadline=None)
hypothesis_settings.load_profile("busy")


@pytest.fixture(scope="session")
def stack_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of the session's servers: a home of their own, free ports."""
    return servers.settings(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def kafka(stack_settings: Settings) -> Iterator[servers.Server]:
    """The session's Kafka broker, with the platform's topics."""
    with servers.running_kafka(stack_settings) as server:
        yield server


@pytest.fixture(scope="session")
def s3(stack_settings: Settings) -> Iterator[servers.Server]:
    """The session's S3 server, with its buckets."""
    with servers.running_s3(stack_settings) as server:
        yield server


@pytest.fixture
def s3_lake(s3: servers.Server, stack_settings: Settings) -> Iterator[Lake]:
    """An empty lake on the session's S3 server; it is wiped behind the test as well."""
    lake = open_lake(stack_settings)
    lake.wipe()
    yield lake
    lake.wipe()


@pytest.fixture(scope="session")
def mlflow_server(stack_settings: Settings, s3: servers.Server) -> Iterator[servers.Server]:
    """The session's MLflow server; its artefacts lie in the session's S3."""
    with servers.running_mlflow(stack_settings) as server:
        yield server


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real input that FRAUD_TEST_DATA names; tests that need it are skipped without."""
    given = os.environ.get("FRAUD_TEST_DATA", "")
    folder = Path(given).absolute()
    if not given or not (folder / "handbook").is_dir():
        pytest.skip("needs the Handbook's data: set FRAUD_TEST_DATA to a folder that holds handbook/")
    return folder
