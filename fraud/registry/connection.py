"""The way to the MLflow server: patience, environment, and its errors in our words."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fraud.errors import ConfigError, ServiceError, StateError
from fraud.settings import PREFIX, Settings, without_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL = "fraud-detector"
EXPERIMENT = "fraud-detection"

ASK_SECONDS = 5  # a question to the registry; a refused connection fails at once
SEND_SECONDS = 60  # an upload's answer comes when S3 has it

# Warnings that say nothing to the platform's user: pattern from the message's start, category.
_NOISE = (
    # Stages are deprecated, but people use them in the UI, so this platform keeps them in step.
    (r"[\s\S]*stages", FutureWarning),
    # MLflow's own type hints, when its pyfunc module is imported.
    (r"[\s\S]*Any type hint is inferred", UserWarning),
    # An example would be stored only to check the signature, which is written out here.
    (r"[\s\S]*An input example was not provided", UserWarning),
)


def environment(settings: Settings, seconds: int) -> dict[str, str]:
    """Return the client's variables: how long it waits for an answer, and artefacts only through the server."""
    return {
        "MLFLOW_TRACKING_URI": settings.mlflow_uri,
        "MLFLOW_REGISTRY_URI": settings.mlflow_uri,
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        # Presigned addresses name an S3 server that a client outside its network can't resolve.
        "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout is for results
        "MLFLOW_UV_AUTO_DETECT": "false",  # the working directory's lock isn't the model's
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


@contextmanager
def connected(settings: Settings, *, seconds: int = ASK_SECONDS) -> Iterator["MlflowClient"]:
    """Give a client of FRAUD_MLFLOW_URI; the first call imports MLflow, which takes seconds.

    Raises:
        ConfigError: MLflow isn't installed.
        ServiceError: the server is away, or it or its artefact store failed.
    """
    for name, value in environment(settings, seconds).items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    for message, category in _NOISE:
        warnings.filterwarnings("ignore", message, category)
    try:
        import mlflow
    except ImportError as exc:
        raise ConfigError("MLflow's client isn't installed: pip install 'fraud-detect[registry]'") from exc
    from requests import RequestException

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)  # it misses pip's version in each artefact
    try:
        yield mlflow.MlflowClient(tracking_uri=settings.mlflow_uri, registry_uri=settings.mlflow_uri)
    except (mlflow.MlflowException, RequestException) as exc:
        raise away(settings, exc) from exc


def away(settings: Settings, exc: Exception) -> ServiceError:
    """Return the error that names the server and what to do."""
    response = getattr(exc, "response", None)
    status = getattr(response, "status_code", None)
    reason = (str(exc).strip() or type(exc).__name__).splitlines()[0]
    shown = without_secrets(settings.mlflow_uri)
    reason = reason.replace(settings.mlflow_uri.rstrip("/"), shown.rstrip("/"))
    if len(reason) > 200:
        reason = reason[:199] + "…"
    what = "doesn't answer" if status is None and "API request" in reason else "failed"
    return ServiceError(
        f"MLflow at {shown} ({PREFIX}MLFLOW_URI) or its artefact store {what}: {reason}. "
        "`fraud-detect status` shows what runs"
    )


def is_absent(exc: Exception) -> bool:
    """Tell whether the server answered that the thing asked for doesn't exist."""
    return getattr(exc, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"


def no_version(version: str) -> StateError:
    """Return the error for a version that isn't registered."""
    return StateError(f"version {version!r} of {MODEL} doesn't exist; `fraud-detect models` lists those that do")
