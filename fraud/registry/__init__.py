"""The model registry: log a bundle, fetch it, move Production, go back. MLflow is imported when it is used."""

from fraud.registry.artefact import TRAINING, RegisteredVersion, fetch, log_model
from fraud.registry.candidates import Tried
from fraud.registry.connection import EXPERIMENT, MODEL
from fraud.registry.look import ALIAS, STAGE, Look, Version
from fraud.registry.production import REFUSED, Move, look, promote, refuse, rollback, settle, versions

__all__ = [
    "ALIAS",
    "EXPERIMENT",
    "MODEL",
    "REFUSED",
    "STAGE",
    "TRAINING",
    "Look",
    "Move",
    "RegisteredVersion",
    "Tried",
    "Version",
    "fetch",
    "log_model",
    "look",
    "promote",
    "refuse",
    "rollback",
    "settle",
    "versions",
]
