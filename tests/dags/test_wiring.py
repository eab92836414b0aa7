"""What the DAGs call, in which order, with which words; what they do about failures. Commands are recorded, not run."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.dags import recorder, rig
from tests.dags.answers import ANSWERS, DATASET, KEPT, URI

pytestmark = pytest.mark.server  # a real Airflow, with a database

TASKS = ["wait_for_archive", "build_dataset", "check_dataset", "train", "judge", "promote_or_keep", "report"]


@dataclass(frozen=True)
class Recorded:
    """A run and the calls it made."""

    run: dict[str, Any]
    calls: list[list[str]]
    environment: dict[str, str]

    def states(self) -> list[str]:
        return [self.run["tasks"][name]["state"] for name in TASKS]


SCENARIOS: dict[str, dict[str, Any]] = {
    "promoted": {"conf": {"as_of": "2026-11-20T03:00:00Z", "seed": 9, "candidates": 3}},
    "defaults, kept": {"conf": {}, "answers": {"promote": {"stdout": json.dumps(KEPT)}}},
    "forced": {"conf": {"force": True}},
    "a bad dataset": {"conf": {}, "answers": {"dataset": {"stdout": json.dumps(DATASET), "exit": 1}}},
    "no JSON": {"conf": {}, "answers": {"train": {"stdout": "done"}}},
    "killed": {"conf": {}, "answers": {name: {**answer, "killed": 1} for name, answer in ANSWERS.items()}},
    "maintained": {"dag": "maintain", "conf": {}},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the Airflow of all scenarios is at home."""
    return tmp_path_factory.mktemp("wiring")


@pytest.fixture(scope="module")
def recorded(home: Path) -> dict[str, Recorded]:
    """Every scenario, run in one process: importing Airflow takes longer than a run."""
    wanted = []
    for name, scenario in SCENARIOS.items():
        folder = home / name
        folder.mkdir()
        command = recorder.install(folder, ANSWERS | scenario.get("answers", {}))
        variables = {"FRAUD_COMMAND": str(command), "FRAUD_LAKE_URI": "s3://elsewhere"}
        wanted.append({"dag": scenario.get("dag", "retrain"), "conf": scenario["conf"], "environment": variables})
    airflow = rig.database(home / "airflow")
    logs = home / "airflow" / "logs"
    for name in ("young", "old", "left empty"):
        (logs / name).mkdir(parents=True)
    for days, entry in ((29, "young/1.log"), (32, "old/1.log"), (1, "left empty")):
        (logs / entry).touch()
        os.utime(logs / entry, (time.time() - days * 86_400,) * 2)
    runs = rig.run(airflow, wanted, home / "driver.log")
    found = {}
    for name, run in zip(SCENARIOS, runs, strict=True):
        calls = recorder.calls(home / name)
        found[name] = Recorded(run, [call["arguments"] for call in calls], calls[0]["environment"])
    return found


def test_each_task_calls_its_command_with_what_came_before(recorded: dict[str, Recorded]) -> None:
    found = recorded["promoted"]
    assert found.run["state"] == "success"
    assert found.calls == [
        ["archive", "--wait", "--timeout", "15m", "--json"],
        ["dataset", "--as-of", "2026-11-20T03:00:00Z", "--json"],
        ["dataset", "--check", URI, "--json"],
        ["train", "--dataset", URI, "--candidates", "3", "--seed", "9", "--reuse", "--json"],
        ["judge", "--version", "3", "--dataset", URI, "--json"],
        ["promote", "--version", "3", "--why", f"Airflow, {found.run['run']}", "--if-better", "--json"],
    ]
    assert found.environment["FRAUD_LAKE_URI"] == "s3://elsewhere"
    assert found.run["tasks"]["build_dataset"]["result"] == DATASET
    assert not (rig.DAGS / "never").exists()


def test_the_report_says_what_came_of_it(recorded: dict[str, Recorded]) -> None:
    assert recorded["promoted"].run["tasks"]["report"]["result"].splitlines() == [
        "Training set as of 2026-11-20T03:00:00.000Z: 1,000 transactions, 10 frauds",
        f"It is {URI}, sha256 abababababab",
        "Version 3 (MLflow run r1)",
        "Verdict: promote. ΔAP is above 0",
        "Version 3 was promoted, in place of 2",
    ]
    assert recorded["defaults, kept"].run["tasks"]["report"]["result"].endswith("Version 3 was kept out")


def test_without_parameters_the_moment_is_the_runs_own(recorded: dict[str, Recorded]) -> None:
    found = recorded["defaults, kept"]
    due = found.run["run_after"].split(".")[0]
    assert found.calls[1] == ["dataset", "--as-of", f"{due}Z", "--json"]
    assert found.calls[3][3:7] == ["--candidates", "20", "--seed", "0"]


def test_only_a_promotion_is_news(recorded: dict[str, Recorded]) -> None:
    assert recorded["promoted"].run["events"] == [
        {"asset": "fraud-detector", "extra": {"version": "3", "kind": "better"}}
    ]
    kept = recorded["defaults, kept"].run
    assert kept["state"] == "success"
    assert kept["events"] == []


def test_force_is_passed_on_and_nothing_else_is(recorded: dict[str, Recorded]) -> None:
    assert recorded["forced"].calls[-1][-2:] == ["--force", "--json"]
    assert all("--force" not in call for call in recorded["promoted"].calls)


def test_a_failure_ends_the_run_there(recorded: dict[str, Recorded]) -> None:
    found = recorded["a bad dataset"]
    assert found.run["state"] == "failed"
    assert found.states() == ["success", "failed", *["upstream_failed"] * 5]
    assert {call[0] for call in found.calls} == {"archive", "dataset"}
    assert len(found.calls) == 1 + 4  # retried three times, then left
    assert found.run["events"] == []


def test_an_answer_that_is_none_is_a_failure(recorded: dict[str, Recorded]) -> None:
    found = recorded["no JSON"]
    assert found.run["state"] == "failed"
    assert found.states() == [*["success"] * 3, "failed", *["upstream_failed"] * 3]


def test_a_command_that_is_killed_is_called_again_in_the_same_words(recorded: dict[str, Recorded]) -> None:
    found = recorded["killed"]
    assert found.run["state"] == "success"
    assert [found.run["tasks"][name]["tries"] for name in TASKS] == [2, 2, 1, 2, 2, 2, 1]
    # `dataset` is two tasks' command; the recorder is killed at its first call.
    once = [call for number, call in enumerate(found.calls) if call not in found.calls[:number]]
    assert len(once) == 6
    assert len(found.calls) == 11
    assert len(found.run["events"]) == 1


def test_maintenance_is_one_command(recorded: dict[str, Recorded]) -> None:
    found = recorded["maintained"]
    assert (found.run["state"], found.calls) == ("success", [["maintain", "--json"]])
    assert found.run["tasks"]["clean_up"]["result"] == {"removed": 4}


def test_old_logs_go_and_young_ones_stay(recorded: dict[str, Recorded], home: Path) -> None:
    assert recorded["maintained"].run["tasks"]["remove_old_logs"]["result"] == 2
    logs = home / "airflow" / "logs"
    assert (logs / "young" / "1.log").exists()
    assert not (logs / "old" / "1.log").exists()
    assert not (logs / "left empty").exists()
