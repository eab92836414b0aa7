"""The DAGs as the scheduler reads them: quickly, without anything heavy, with all that a person needs to know."""

import ast
import json
import subprocess
import sys
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.dags import rig

# Airflow may live in an environment without any of them.
NEVER = ("fraud", "producer", "spark_jobs", "mlflow", "xgboost", "pyspark", "sklearn", "imblearn", "numba", "polars")
SECONDS = 2.0
# As Airflow's DAG processor does it, in an interpreter that has done nothing else.
READ = """
import json, sys, time
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import dag, task
from airflow.providers.standard.decorators.bash import bash_task
begun = time.perf_counter()
bag = DagBag(sys.argv[1])
seconds = time.perf_counter() - begun
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction

def due(one):
    timetable = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(one)).timetable
    free = TimeRestriction(earliest=None, latest=None, catchup=one.catchup)
    first = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=free)
    return first.run_after.isoformat()

def seconds_of(delta):
    return None if delta is None else delta.total_seconds()

dags = {
    one.dag_id: {
        "doc": one.doc_md, "tags": sorted(one.tags), "catchup": one.catchup, "due": due(one),
        "runs": one.max_active_runs, "timeout": seconds_of(one.dagrun_timeout),
        "params": {name: one.params.get_param(name).schema for name in one.params},
        "tasks": {
            task.task_id: {
                "doc": task.doc_md, "owner": task.owner, "retries": task.retries,
                "delay": seconds_of(task.retry_delay), "backoff": task.retry_exponential_backoff,
                "timeout": seconds_of(task.execution_timeout), "downstream": sorted(task.downstream_task_ids),
            }
            for task in one.tasks
        },
    }
    for one in bag.dags.values()
}
found = {"seconds": seconds, "errors": bag.import_errors, "modules": sorted(sys.modules), "dags": dags}
print(json.dumps(found))
"""
# The same without the machinery that reads DAGs: what the files alone import.
ALONE = """
import importlib.util, json, sys
for path in sys.argv[1:]:
    spec = importlib.util.spec_from_file_location("read_alone", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
print(json.dumps(sorted(sys.modules)))
"""


def fresh(home: Path, program: str, *arguments: object) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=rig.environment(home),
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return fresh(tmp_path_factory.mktemp("read"), READ, rig.DAGS)


def test_the_dags_are_read_quickly(read: Any) -> None:
    assert read["errors"] == {}
    assert sorted(read["dags"]) == ["maintain", "retrain"]
    assert read["seconds"] < SECONDS


def test_nothing_heavy_is_imported(read: Any, tmp_path: Path) -> None:
    alone = fresh(tmp_path, ALONE, *sorted(rig.DAGS.glob("*.py")))
    for modules in (read["modules"], alone):
        assert "airflow.sdk" in modules
        assert [name for name in modules if name.split(".")[0] in NEVER] == []


@pytest.mark.parametrize("path", sorted(rig.DAGS.glob("*.py")), ids=lambda path: path.name)
def test_a_dag_imports_airflow_and_the_standard_library_only(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        strange = [name for name in names if name.split(".")[0] not in {"airflow", *sys.stdlib_module_names}]
        assert not strange, f"{path.name} imports {strange}"


@pytest.mark.parametrize(("name", "hour", "minute"), [("retrain", 3, 0), ("maintain", 4, 30)])
def test_it_runs_every_night_and_never_makes_up_for_one(read: Any, name: str, hour: int, minute: int) -> None:
    found = read["dags"][name]
    assert f"T{hour:02}:{minute:02}:00+00:00" in found["due"]
    assert not found["catchup"]
    assert found["runs"] == 1


def test_a_person_finds_what_to_know(read: Any) -> None:
    for name, found in read["dags"].items():
        assert found["doc"].strip().startswith("###"), name
        assert "fraud" in found["tags"]
        assert found["timeout"] > 0
        for task, told in found["tasks"].items():
            assert told["doc"], f"{name}.{task} says nothing of itself"
            assert told["owner"] == "fraud"
            assert told["retries"] >= 1
            assert told["backoff"]
            assert 0 < told["delay"] < told["timeout"] <= found["timeout"]


def test_retraining_goes_from_the_archive_to_the_report(read: Any) -> None:
    tasks = read["dags"]["retrain"]["tasks"]
    order = ["wait_for_archive", "build_dataset", "check_dataset", "train", "judge", "promote_or_keep", "report"]
    assert sorted(tasks) == sorted(order)
    for one, after in pairwise(order):
        assert after in tasks[one]["downstream"]
    assert sorted(read["dags"]["retrain"]["params"]) == ["as_of", "candidates", "force", "seed"]
    assert sorted(read["dags"]["maintain"]["params"]) == ["log_days"]


def test_the_waiting_command_gives_up_before_airflow_ends_it(read: Any) -> None:
    # Its own message says what it waits for; Airflow's would say how long.
    assert "--timeout 15m" in (servers.REPOSITORY / "dags" / "retrain.py").read_text()
    assert read["dags"]["retrain"]["tasks"]["wait_for_archive"]["timeout"] > timedelta(minutes=15).total_seconds()
