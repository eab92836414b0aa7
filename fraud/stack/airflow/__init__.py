"""Airflow on one machine: its parts as supervised programs, its login, and its REST API."""

from fraud.stack.airflow.client import ENDED, health, import_errors, knows, runs, state, tasks, trigger, wait
from fraud.stack.airflow.keys import USER, password, password_file
from fraud.stack.airflow.programs import NAME, programs

__all__ = [
    "ENDED",
    "NAME",
    "USER",
    "health",
    "import_errors",
    "knows",
    "password",
    "password_file",
    "programs",
    "runs",
    "state",
    "tasks",
    "trigger",
    "wait",
]
