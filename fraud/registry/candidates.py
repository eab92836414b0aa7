"""A search's candidates as runs below the training's own, so that MLflow's UI compares them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from fraud.registry.retention import PARENT

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate: its parameters and figures; `failed` where it could not be fitted in every fold.

    `best` was taken; `default` is what is used where nothing is searched.
    """

    params: dict[str, str]
    metrics: dict[str, float]
    failed: bool = False
    best: bool = False
    default: bool = False


def log_candidates(client: "MlflowClient", parent: "Run", candidates: Iterable[Tried]) -> None:
    """Log each candidate as a run of its own; three requests each, some 20 ms together."""
    from mlflow.entities import Metric, Param

    for number, tried in enumerate(candidates, 1):
        tags = {PARENT: parent.info.run_id, "candidate": str(number), "best": str(tried.best).lower()}
        name = "the default" if tried.default else f"candidate {number}"
        run = client.create_run(parent.info.experiment_id, run_name=name, tags=tags)
        client.log_batch(
            run.info.run_id,
            metrics=[Metric(name, value, run.info.start_time, 0) for name, value in tried.metrics.items()],
            params=[Param(name, value) for name, value in tried.params.items()],
        )
        client.set_terminated(run.info.run_id, "FAILED" if tried.failed else "FINISHED")
