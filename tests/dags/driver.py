"""Run DAGs in this process and say what came of it (`python -m tests.dags.driver`); a program of its own, because
Airflow warns of much, and in tests warnings are errors.

It reads from stdin one JSON list of runs, {"dag", "conf", "environment"}, and prints for each one line: the state
of the run, each task's state, tries and XCom, and the asset's events.
"""

import json
import os
import sys
from datetime import timedelta
from typing import Any


def main() -> None:
    """Run what stdin asks for, one run after the other."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Airflow's logs go to stdout
    from airflow.dag_processing.dagbag import DagBag

    for wanted in json.load(sys.stdin):
        os.environ.update(wanted.get("environment", {}))
        bag = DagBag()  # a run leaves its parameters in the DAG
        assert not bag.import_errors, bag.import_errors
        dag = bag.dags[wanted["dag"]]
        for each in dag.tasks:
            each.retry_delay = timedelta(seconds=0.1)
            each.retry_exponential_backoff = 0
        answers.write(json.dumps(run(dag, wanted.get("conf", {}))) + "\n")
        answers.flush()


def run(dag: Any, conf: dict[str, Any]) -> dict[str, Any]:
    """Run a DAG to its end as somebody would who asks for it now."""
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    ended = dag.test(run_conf=conf, logical_date=None)
    found = {
        each.task_id: {
            "state": each.state,
            "tries": each.try_number,
            "result": each.xcom_pull(task_ids=each.task_id) if each.state == "success" else None,
        }
        for each in ended.get_task_instances()
    }
    with create_session() as session:
        events = session.scalars(select(AssetEvent).where(AssetEvent.source_run_id == ended.run_id)).all()
        told = [{"asset": each.uri, "extra": each.extra} for each in events]
    return {
        "run": ended.run_id,
        "run_after": ended.run_after.isoformat(),
        "state": ended.state,
        "tasks": found,
        "events": told,
    }


if __name__ == "__main__":
    main()
