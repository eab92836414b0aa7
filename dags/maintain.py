"""Keep the lake and the registry small: every day at 04:30 UTC, after the retraining.

Wiring only, as `dags/retrain.py`.
"""

import json
from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, dag, task

DOC = """
### Compact the lake, remove what nobody needs any more

Small files of the lake's tables become large ones; files that no table, and no training set younger than
`FRAUD_CUT_DAYS`, refers to are removed; so are old MLflow runs that no registered version came from. Nothing that
scoring, a rebuild or a rollback needs is touched, and it may run beside the stream. A run that was cut short is
finished by the next.
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
    doc_md=DOC,
    tags=["fraud", "maintenance"],
)
def maintain() -> None:
    @task.bash(append_env=True, output_processor=json.loads)
    def clean_up() -> str:
        """Compact and remove; the result counts the files, rows and runs."""
        # What it says to people is logged as it comes, its result comes last.
        return 'set -e; result=$("${FRAUD_COMMAND:-fraud-detect}" maintain --json); echo "$result"'

    clean_up()


maintain()
