"""Old runs of the experiment go; those that a registered version came from stay, whatever their age."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fraud.registry.connection import EXPERIMENT, connected, is_absent
from fraud.registry.look import read
from fraud.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARENT = "mlflow.parentRunId"
_PAGE = 1_000


@dataclass(frozen=True)
class Forgotten:
    """How many runs went, and how many are left."""

    deleted: int
    kept: int


def forget_runs(settings: Settings, *, before: datetime, keep: int) -> Forgotten:
    """Delete the runs begun earlier than `before`, but for the newest `keep` and those of registered versions.

    Child runs go and stay with their parent. Deleted runs lie in MLflow's trash (`mlflow restore`) until
    `mlflow gc` empties it. A run that is being registered is young: it stays.

    Raises:
        ServiceError: MLflow is away; whatever was deleted by then is, and the next call goes on.
    """
    with connected(settings) as client:
        runs = list(_runs(client))
        registered = {version.run_id for version in read(client).versions.values()}
        tops = sorted((run for run in runs if _parent(run) is None), key=lambda run: run.info.start_time, reverse=True)
        oldest = int(before.timestamp() * 1000)
        kept = {run.info.run_id for run in tops[:keep]} | registered
        kept |= {run.info.run_id for run in runs if run.info.start_time >= oldest}
        # A version may have been registered from a child.
        kept |= {parent for run in runs if run.info.run_id in registered and (parent := _parent(run)) is not None}
        doomed = [run.info.run_id for run in runs if not {run.info.run_id, _parent(run)} & kept]
        for run_id in doomed:
            _delete(client, run_id)
        return Forgotten(len(doomed), len(runs) - len(doomed))


def _runs(client: "MlflowClient") -> Iterator[Any]:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return
    token = None
    while True:
        page = client.search_runs([experiment.experiment_id], max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _parent(run: Any) -> str | None:
    parent: str | None = run.data.tags.get(PARENT)
    return parent


def _delete(client: "MlflowClient", run_id: str) -> None:
    from mlflow import MlflowException

    try:
        client.delete_run(run_id)
    except MlflowException as exc:
        if not is_absent(exc):  # another upkeep was faster
            raise
