"""Keep the lake, the registry and Airflow's own logs small: every day at 04:30 UTC, after the retraining.

Wiring only, as `dags/retrain.py`.
"""

import json
import shlex
from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, Param, dag, task

DOC = """
### Compact the lake, remove what nobody needs any more

Small files of the lake's tables become large ones; files that no table, and no training set younger than
`FRAUD_CUT_DAYS`, refers to are removed; so are old MLflow runs that no registered version came from. Nothing that
scoring, a rebuild or a rollback needs is touched, and it may run beside the stream. A run that was cut short is
finished by the next.

Airflow's logs are removed when nothing was written to them for **log_days**.
"""


@dag(
    # Without a start date, a platform that is up for the first time doesn't make up for the night before.
    schedule=CronTriggerTimetable("30 4 * * *", timezone="UTC", run_immediately=timedelta(minutes=2)),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    default_args={
        "owner": "fraud",
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=10),
        "execution_timeout": timedelta(hours=1),
    },
    params={"log_days": Param(30, type="integer", minimum=1, description="Airflow's logs live this long.")},
    doc_md=DOC,
    tags=["fraud", "maintenance"],
)
def maintain() -> None:
    @task.bash(append_env=True, output_processor=json.loads)
    def clean_up() -> str:
        """Compact and remove; the result counts the files, rows and runs."""
        # What it says to people is logged as it comes, its result comes last.
        return 'set -e; result=$("${FRAUD_COMMAND:-fraud-detect}" maintain --json); echo "$result"'

    @task.bash(append_env=True, env={"DAYS": "{{ params.log_days }}"})
    def remove_old_logs() -> str:
        """Remove Airflow's logs that nothing was written to for so long, and empty folders; count them."""
        from airflow.configuration import conf

        # A folder that one run empties is the next run's to remove: its own time is of now.
        within = f"find {shlex.quote(conf.get('logging', 'base_log_folder'))} -mindepth 1 -depth"
        files, folders = '-type f -mtime +"$DAYS"', "-type d -empty -mmin +60"
        return f"{{ {within} {files} -print -delete; {within} {folders} -print -delete; }} | wc -l"

    clean_up()
    remove_old_logs()


maintain()
