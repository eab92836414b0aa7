"""A bundle's way into MLflow and back: logged as a pyfunc without pickle, fetched and verified."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from fraud.errors import ModelError
from fraud.model import FILES, Bundle, read_files
from fraud.registry import carrier
from fraud.registry.candidates import Tried, log_candidates
from fraud.registry.connection import EXPERIMENT, MODEL, SEND_SECONDS, connected, is_absent, no_version
from fraud.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

FOLDER = "bundle"
DATA = f"data/{FOLDER}"  # where MLflow puts a pyfunc's data inside the artefact
TRAINING = "training"  # the tag that names what a version was trained from, and how
REQUIREMENTS = ("mlflow", "numpy", "pandas", "xgboost")
LONGEST_TAG = 5_000  # MLflow refuses longer values
LONGEST_PARAM = 6_000


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of `fraud-detector`, just registered; its stage is None and it has no alias."""

    version: str
    run_id: str
    sha256: str  # of Bundle.to_bytes
    model_id: str  # MLflow's logged model, which holds the artefact


def log_model(
    settings: Settings,
    bundle: Bundle,
    *,
    run_name: str,
    metrics: Mapping[str, float],
    params: Mapping[str, object],
    tags: Mapping[str, str],
    artifacts: Mapping[str, bytes],
    candidates: Sequence[Tried] = (),
) -> RegisteredVersion:
    """Log one run with the bundle as a pyfunc, and register it as the next version.

    Args:
        settings: name the server.
        bundle: what to register; it must read exactly the features that this version computes.
        run_name: the run's name in the experiment.
        metrics: the judgement; `models` shows average_precision, f2 and recall.
        params: what the training was asked for.
        tags: of the run and of the version.
        artifacts: path inside the run's artefacts -> bytes (reports, plots).
        candidates: a search's; each becomes a run below this one.

    The version is the last thing made, in one request: whatever fails before leaves a run that failed, or runs
    for ever, and no version. Such a run of the same training (tag `training`) is ended when it is registered.

    Raises:
        ModelError: the bundle reads other features than ours; nothing is logged.
        ServiceError: MLflow or its artefact store is away.
    """
    bundle.require_our_features()
    digest = hashlib.sha256(bundle.to_bytes()).hexdigest()
    with connected(settings, seconds=SEND_SECONDS) as client, TemporaryDirectory(prefix="fraud-") as scratch:
        import mlflow

        mlflow.set_tracking_uri(settings.mlflow_uri)
        mlflow.set_registry_uri(settings.mlflow_uri)
        mlflow.set_experiment(EXPERIMENT)
        folder = Path(scratch)
        with mlflow.start_run(run_name=run_name, tags=dict(tags)) as run:
            mlflow.log_params({name: str(value)[:LONGEST_PARAM] for name, value in params.items()})
            mlflow.log_metrics(dict(metrics))
            if artifacts:
                _write(folder / "artifacts", artifacts)
                mlflow.log_artifacts(str(folder / "artifacts"))
            log_candidates(client, run, candidates)
            model_id = _log_pyfunc(bundle, folder)
        version = _register(client, run.info.run_id, model_id, {**tags, **_facts(bundle, digest)})
        if TRAINING in tags:
            _end_others(client, run, tags[TRAINING])
    return RegisteredVersion(version, run.info.run_id, digest, model_id)


def _log_pyfunc(bundle: Bundle, folder: Path) -> str:
    """Log the model into the active run; return the id of MLflow's logged model."""
    import mlflow

    bundle.to_dir(folder / FOLDER)
    loader = carrier.pack(folder / "code")
    info = mlflow.pyfunc.log_model(
        name="model",
        loader_module=loader,
        data_path=str(folder / FOLDER),
        code_paths=[str(folder / "code" / loader.split(".")[0])],
        signature=_signature(bundle.feature_names),
        # Without them MLflow loads the model in a process of its own to find out: 12-38 s.
        pip_requirements=[f"{name}=={installed(name)}" for name in REQUIREMENTS],
    )
    return str(info.model_id)


def _register(client: "MlflowClient", run_id: str, model_id: str, tags: Mapping[str, str]) -> str:
    from mlflow import MlflowException

    try:
        client.create_registered_model(MODEL, description="Calibrated fraud probability of a payment.")
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(MODEL, f"models:/{model_id}", run_id=run_id, tags=dict(tags), model_id=model_id)
    return str(made.version)


def _end_others(client: "MlflowClient", run: "Run", training: str) -> None:
    """End the runs of the same training that a server which went away, or a killed process, left running."""
    left = client.search_runs(
        [run.info.experiment_id], f"tags.{TRAINING} = '{training}' and attributes.status = 'RUNNING'"
    )
    for other in left:
        if other.info.run_id != run.info.run_id:
            client.set_terminated(other.info.run_id, "KILLED")


def fetch(settings: Settings, version: str) -> Bundle:
    """Download a version's bundle and verify it.

    Raises:
        ModelError: a file is missing or corrupt, the features aren't ours, or it isn't what was registered.
        StateError: there is no such version.
        ServiceError: MLflow or its artefact store is away.
    """
    with connected(settings) as client:
        found = _version(client, version)
        files = _download(settings, client, version)
    bundle = Bundle.from_files(files)
    expected = found.tags.get("sha256")
    actual = hashlib.sha256(bundle.to_bytes()).hexdigest()
    if expected is not None and expected != actual:
        raise ModelError(
            f"version {version} of {MODEL} was registered with sha256 {expected}, its files give {actual}: "
            "somebody changed them; register them as a version of their own"
        )
    return bundle


def _version(client: "MlflowClient", version: str) -> Any:
    from mlflow import MlflowException

    try:
        return client.get_model_version(MODEL, version)
    except MlflowException as exc:
        if is_absent(exc) or exc.error_code == "INVALID_PARAMETER_VALUE":
            raise no_version(version) from exc
        raise


def _download(settings: Settings, client: "MlflowClient", version: str) -> dict[str, bytes]:
    """Return the bundle's files that the artefact holds; a missing one isn't an error here."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    where = client.get_model_version_download_uri(MODEL, version)
    repository: Any = get_artifact_repository(where, tracking_uri=settings.mlflow_uri, registry_uri=settings.mlflow_uri)
    # Asked first, because downloading what isn't there looks like a server that fails.
    if not {PurePosixPath(entry.path).name for entry in repository.list_artifacts(DATA)} & set(FILES):
        return {}
    with TemporaryDirectory(prefix="fraud-") as folder:
        repository.download_artifacts(DATA, folder)
        return read_files(Path(folder) / DATA)


def _signature(names: tuple[str, ...]) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    return ModelSignature(
        inputs=Schema([ColSpec(DataType.double, name) for name in names]),
        outputs=Schema(
            [
                ColSpec(DataType.double, "fraud_probability"),
                ColSpec(DataType.long, "prediction"),
                ColSpec(DataType.string, "decision"),
            ]
        ),
    )


def _facts(bundle: Bundle, digest: str) -> dict[str, str]:
    """Return what a version's page should say of its bundle."""
    facts = {
        "sha256": digest,
        "feature_version": bundle.feature_version,
        "review": str(bundle.review),
        "block": "off" if bundle.block is None else str(bundle.block),
    }
    window = json.dumps(bundle.window, sort_keys=True, separators=(",", ":"))
    return facts | ({"window": window} if len(window) <= LONGEST_TAG else {})


def _write(folder: Path, artifacts: Mapping[str, bytes]) -> None:
    for name, raw in artifacts.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ModelError(f"artefact {name!r} lies outside the run's folder; name it without ..")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
