"""Old runs go, whatever a version came from stays."""

import json
import sys
from datetime import UTC, datetime

import pytest
from mlflow import MlflowClient

from fraud import registry
from fraud.cli.main import main
from fraud.registry.connection import connected
from fraud.registry.retention import PARENT, Forgotten, forget_runs
from fraud.settings import Settings
from tests.registry.versions import state

pytestmark = pytest.mark.server
OLD = datetime(2020, 1, 1, tzinfo=UTC)
NEW = datetime(2020, 6, 1, tzinfo=UTC)
BEFORE = datetime(2020, 3, 1, tzinfo=UTC)


def begin(client: MlflowClient, at: datetime, parent: str | None = None) -> str:
    (experiment,) = client.search_experiments(filter_string=f"name = '{registry.EXPERIMENT}'")
    tags = {} if parent is None else {PARENT: parent}
    run = client.create_run(experiment.experiment_id, start_time=int(at.timestamp() * 1000), tags=tags)
    return str(run.info.run_id)


def test_old_runs_go_but_for_the_newest_and_the_registered(
    three: list[registry.RegisteredVersion], stack_settings: Settings
) -> None:
    with connected(stack_settings) as client:
        (experiment,) = client.search_experiments(filter_string=f"name = '{registry.EXPERIMENT}'")
        for run in client.search_runs([experiment.experiment_id]):
            if run.info.run_id not in {entry.run_id for entry in three}:  # of other tests
                client.delete_run(run.info.run_id)
        old, young = begin(client, OLD), begin(client, NEW)
        child, heir = begin(client, OLD, parent=old), begin(client, OLD, parent=young)
        trial = begin(client, OLD, parent=three[0].run_id)
    now = datetime.now(UTC)
    # Of those that aren't registered, only what lies before the day and isn't among the newest goes.
    assert forget_runs(stack_settings, before=BEFORE, keep=5) == Forgotten(0, 8)
    assert forget_runs(stack_settings, before=BEFORE, keep=0) == Forgotten(2, 6)
    with connected(stack_settings) as client:
        stages = {name: client.get_run(name).info.lifecycle_stage for name in (old, child, young, heir, trial)}
    assert stages == {old: "deleted", child: "deleted", young: "active", heir: "active", trial: "active"}
    assert forget_runs(stack_settings, before=now, keep=0) == Forgotten(2, 4)
    assert forget_runs(stack_settings, before=now, keep=0) == Forgotten(0, 4)
    versions = {entry.version for entry in three}
    assert state(stack_settings)[2].keys() == versions
    for version in versions:
        registry.fetch(stack_settings, version)


def test_the_command_counts_tables_and_runs(
    three: list[registry.RegisteredVersion],
    stack_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in stack_settings.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["fraud-detect", "maintain", "--keep-runs", "0", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    said = json.loads(capsys.readouterr().out)
    assert said.keys() == {"lake", "runs", "seconds"}
    assert said["runs"]["deleted"] == 0
    assert said["runs"]["kept"] >= len(three)
