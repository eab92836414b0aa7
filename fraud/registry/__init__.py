"""The model registry: log a bundle, fetch it, move Production, go back. MLflow is imported when it is used."""

from fraud.registry.artefact import RegisteredVersion, fetch, log_model
from fraud.registry.connection import EXPERIMENT, MODEL

__all__ = ["EXPERIMENT", "MODEL", "RegisteredVersion", "fetch", "log_model"]
