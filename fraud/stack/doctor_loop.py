"""`doctor`'s checks of what closes the loop: the archive job, which brings labels back, and Airflow, which retrains."""

import json
from collections.abc import Iterator
from typing import Any

from fraud import bus
from fraud.settings import Settings
from fraud.stack import airflow as server
from fraud.stack import doctor_words as words
from fraud.stack.finding import Finding, ok, problem, warning
from fraud.stack.stored import is_held, opened
from fraud.store.leases import ARCHIVE

PROGRESS = "archive-progress.jsonl"
# Its batches come every few seconds; what is older waits for something.
LATE_MS = 120_000
RETRAIN = "retrain"
PARTS = {"scheduler": "airflow-scheduler", "dag_processor": "airflow-dag-processor"}


def archive(settings: Settings, now: int) -> Iterator[Finding]:
    """Tell whether the archive job runs, and how far the lake is behind the topics; `now` in ms."""
    with opened(settings) as found:
        lease = None if found is None else found.histories.leases().get(ARCHIVE)
    if lease is None or not is_held(lease, now):
        yield problem(
            "archive",
            "no archive job runs, so no label comes back and merchants' profiles grow old: nobody living holds the "
            f"store's lease `{ARCHIVE}`; {words.start(settings, ARCHIVE)} starts it, its log is "
            f"{words.log(settings, ARCHIVE)}",
        )
        return
    yield ok("archive", f"the job runs, pid {lease.pid}")
    if words.is_away(settings, "kafka_bootstrap"):
        return
    last = newest_progress(settings)
    ends = {topic.name: bus.end_offsets(settings.kafka_bootstrap, topic.name) for topic in bus.topics(settings)}
    yield lag(last, ends, now, words.log(settings, ARCHIVE))


def newest_progress(settings: Settings) -> dict[str, Any] | None:
    """Return the archive job's newest line of progress, None before its first batch."""
    path = settings.logs.absolute() / PROGRESS
    lines = path.read_text().splitlines() if path.exists() else []
    for line in reversed(lines):
        try:
            found: dict[str, Any] = json.loads(line)
        except ValueError:  # a line that is being written
            continue
        return found
    return None


def lag(last: dict[str, Any] | None, ends: dict[str, dict[int, int]], now: int, log: str) -> Finding:
    """Compare what the lake holds with the topics' ends, {topic: {partition: next offset}}; `now` in ms.

    Nothing new in the topics leaves the lake as it is, however long ago; waiting for long is a warning.
    """
    reached = {} if last is None else last["ends"]
    waiting = {
        topic: behind
        for topic, partitions in ends.items()
        if (behind := sum(max(0, end - reached.get(topic, {}).get(str(part), 0)) for part, end in partitions.items()))
    }
    if not waiting:
        return ok("archive", "the lake holds everything that the topics do")
    told = ", ".join(f"{count:,} of {topic}" for topic, count in waiting.items())
    if last is not None and now - int(last["at"]) < LATE_MS:
        return ok("archive", f"waiting to be archived: {told}")
    since = (
        "it has written nothing yet" if last is None else f"its last batch was {(now - int(last['at'])) // 1000} s ago"
    )
    return warning("archive", f"waiting to be archived: {told}; {since}. Its log {log} says why")


def airflow(settings: Settings) -> Iterator[Finding]:
    """Look at the parts' heartbeats, the DAGs that can't be read, and how the last retraining ended."""
    if words.is_away(settings, "airflow_uri"):
        return
    health = server.health(settings)
    late = [part for part in PARTS if health.get(part) != "healthy"]
    for part in late:
        where = words.log(settings, PARTS[part])
        yield problem("airflow", f"no heartbeat of {PARTS[part]}: nothing is retrained. Its log is {where}")
    if not late:
        yield ok("airflow", "scheduler and DAG processor are healthy")
    for told in server.import_errors(settings):
        yield problem("airflow", f"a DAG can't be read: {told}. Mend it, and it is read again within a minute")
    ended = [run for run in server.runs(settings, RETRAIN) if run["state"] in server.ENDED]
    if ended:
        yield retrained(settings, ended[0]["dag_run_id"], ended[0]["state"])


def retrained(settings: Settings, run_id: str, state: str) -> Finding:
    """Say how the last retraining ended, of a failed one where."""
    if state == "success":
        return ok("airflow", f"the last retraining, {run_id}, has succeeded")
    tasks = server.tasks(settings, RETRAIN, run_id)
    where = " and ".join(task for task, at in tasks.items() if at == "failed") or "no task"
    return warning(
        "airflow",
        f"the last retraining, {run_id}, failed in {where}; its log at {settings.airflow_uri} says why. "
        "The model in Production stays; clear the task, and the run goes on from there",
    )
