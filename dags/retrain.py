"""Retrain every day at 03:00 UTC, and promote the new model if it is better.

Wiring only: each task runs the command that a person would type and hands on the JSON line that it prints last.
This file is read by Airflow's own environment, which needn't have the platform's library in it.
"""

import json
import logging
from datetime import timedelta
from functools import partial
from typing import Any

from airflow.sdk import Asset, AssetAlias, CronTriggerTimetable, Param, dag, task

DOC = """
### Retrain the fraud model and promote it if it is better

`wait_for_archive → build_dataset → check_dataset → train → judge → promote_or_keep → report`

The training set is what was known at **as_of**: transactions at least seven days older, with the labels that had
arrived by then. The challenger is judged on rows that neither it nor the champion was trained on; a worse one is
never promoted, one that is as good only relieves a champion that has grown old.

| parameter | meaning |
|---|---|
| `as_of` | the moment whose knowledge counts, `YYYY-MM-DDTHH:MM:SSZ`; empty: when the run was due |
| `seed` | of the search and of the training |
| `candidates` | how many candidates the search tries; 0: no search |
| `force` | promote whatever the judgement is; it is recorded |

**Run it again** as often as you like: the same as_of, seed and candidates find the training set, the model and the
verdict that exist. One run at a time; others wait in the queue. **When a task fails** nothing is half-promoted: the
model in Production stays, the stream goes on with it. The failed task's log ends with the reason and what to do;
clear the task and the run goes on from there.
"""

# Announced when a version has moved into Production; schedule a DAG on it to follow the model.
MODEL = Asset("fraud-detector")
# Outlets are announced by every success, an alias only what is added to it: a kept champion isn't news.
PROMOTED = AssetAlias("fraud-detector-promoted")

# Values reach the commands as variables, never as text of a command: a parameter is typed in by people.
AS_OF = "{{ params.as_of or (dag_run.data_interval_end or dag_run.run_after).strftime('%Y-%m-%dT%H:%M:%SZ') }}"
DATASET = "{{ ti.xcom_pull(task_ids='build_dataset')['uri'] }}"
VERSION = "{{ ti.xcom_pull(task_ids='train')['version'] }}"

command = partial(task.bash, append_env=True, output_processor=json.loads)


def call(words: str) -> str:
    """Return the shell's words for a command: what it says to people is logged as it comes, its result comes last."""
    return f'set -e; result=$("${{FRAUD_COMMAND:-fraud-detect}}" {words}); echo "$result"'


def announce(context: Any, result: Any) -> None:
    """Tell the followers of the asset that a version is in Production, if one was put there."""
    if result["outcome"] == "promoted":
        context["outlet_events"][PROMOTED].add(MODEL, extra={"version": result["version"], "kind": result["kind"]})


def _told(ended: Any) -> str:
    if ended["outcome"] != "promoted":
        return "kept out"
    # A run that is repeated finds its version in Production already.
    replaced = ended["previous"] not in (None, ended["version"])
    return f"promoted, in place of {ended['previous']}" if replaced else "promoted"


@dag(
    # Without a start date, a platform that is up for the first time doesn't make up for the night before.
    schedule=CronTriggerTimetable("0 3 * * *", timezone="UTC", run_immediately=timedelta(minutes=2)),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    default_args={
        "owner": "fraud",
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=10),
        "execution_timeout": timedelta(minutes=30),
    },
    params={
        "as_of": Param(
            None,
            type=["null", "string"],
            pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$",
            maxLength=24,
            description="What is known at this moment counts, e.g. 2026-11-25T03:00:00Z; empty: when the run was due.",
        ),
        "seed": Param(0, type="integer", minimum=0, maximum=2**31 - 1, description="Of the search and the training."),
        "candidates": Param(20, type="integer", minimum=0, maximum=1000, description="0: no search."),
        "force": Param(False, type="boolean", description="Promote whatever the judgement is."),
    },
    doc_md=DOC,
    tags=["fraud", "training"],
)
def retrain() -> None:
    @command(execution_timeout=timedelta(minutes=20))
    def wait_for_archive() -> str:
        """Wait until everything that the topics hold now is in the lake."""
        return call("archive --wait --timeout 15m --json")

    @command(env={"AS_OF": AS_OF})
    def build_dataset() -> str:
        """Build the training set as of the moment; a damaged one is built again and must have the same hash."""
        return call('dataset --as-of "$AS_OF" --json')

    # What is wrong with the rows is wrong the second time too; one retry is for a process that was killed.
    @command(env={"DATASET": DATASET}, retries=1)
    def check_dataset() -> str:
        """Refuse a training set whose counts, label rate or features can't be right."""
        return call('dataset --check "$DATASET" --json')

    @command(
        env={"DATASET": DATASET, "SEED": "{{ params.seed }}", "CANDIDATES": "{{ params.candidates }}"},
        execution_timeout=timedelta(hours=3),
    )
    def train() -> str:
        """Search, train, calibrate and register a version; one trained the same way before is taken instead."""
        return call('train --dataset "$DATASET" --candidates "$CANDIDATES" --seed "$SEED" --reuse --json')

    @command(env={"DATASET": DATASET, "VERSION": VERSION})
    def judge() -> str:
        """Compare the version with the one in Production, on the same rows; the verdict is written on the version."""
        return call('judge --version "$VERSION" --dataset "$DATASET" --json')

    @command(
        env={
            "VERSION": VERSION,
            "WHY": "Airflow, {{ dag_run.run_id }}",
            "FORCE": "{{ '--force' if params.force else '' }}",
        },
        outlets=[PROMOTED],
        post_execute=announce,
    )
    def promote_or_keep() -> str:
        """Move the version into Production if its verdict says so; otherwise the champion stays."""
        return call('promote --version "$VERSION" --why "$WHY" --if-better ${FORCE:+"$FORCE"} --json')

    @task
    def report(dataset: Any, trained: Any, judged: Any, ended: Any) -> str:
        """Say in a few lines what came of it."""
        lines = [
            f"Training set as of {dataset['as_of']}: {dataset['rows']:,} transactions, {dataset['frauds']:,} frauds",
            f"It is {dataset['uri']}, sha256 {dataset['sha256'][:12]}",
            f"Version {trained['version']} (MLflow run {trained['run_id']})",
            f"Verdict: {judged['outcome']}. {'; '.join(judged['reasons'])}",
            f"Version {ended['version']} was {_told(ended)}",
        ]
        for line in lines:
            logging.getLogger(__name__).info(line)
        return "\n".join(lines)

    dataset, trained, judged, ended = build_dataset(), train(), judge(), promote_or_keep()
    wait_for_archive() >> dataset >> check_dataset() >> trained >> judged >> ended
    report(dataset, trained, judged, ended)


retrain()
